//! Seeded stories: files grow, rotate, are packed, copied and cut, while runs are killed, refused and left without an answer. Checked after each
//! story: every line was counted once, and no two were joined.

use std::collections::HashMap;

use super::*;

const SEEDS: u64 = 300;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

struct Story {
    seed: u64,
    dice: Dice,
    world: World,
    written: u64,
    /// The last line of `app.log` lacks its newline.
    open_line: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut story = Self { seed, dice: Dice(seed), world: World::new(), written: 0, open_line: false };
        story.world.target = 40 + story.dice.roll(600) as usize;
        story
    }

    fn line(&mut self) -> String {
        self.written += 1;
        let pad = "x".repeat(self.dice.roll(60) as usize);
        format!("L{};{pad}", self.written)
    }

    fn write_lines(&mut self) {
        let mut text = String::new();
        if self.open_line {
            text.push_str(["", "rest"][self.dice.roll(2) as usize]);
            text.push('\n');
        }
        for _ in 0..1 + self.dice.roll(40) {
            text.push_str(&self.line());
            text.push('\n');
        }
        self.open_line = self.dice.roll(3) == 0;
        if self.open_line {
            text.pop();
        }
        self.world.append("app.log", &text);
    }

    fn packed(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.dice.roll(2) == 0 { gz(bytes) } else { zst(bytes) }
    }

    /// Turns the chain: app.log, app.log.1, then packed ones.
    fn rotate(&mut self, by_copy: bool) {
        let exists = |world: &World, name: &str| world.path(name).exists();
        for number in (2..30).rev() {
            if exists(&self.world, &format!("app.log.{number}.gz")) {
                self.world.rename(&format!("app.log.{number}.gz"), &format!("app.log.{}.gz", number + 1));
            }
        }
        if exists(&self.world, "app.log.1") {
            let bytes = fs::read(self.world.path("app.log.1")).unwrap();
            let packed = self.packed(&bytes);
            self.world.write("app.log.2.gz", packed);
            fs::remove_file(self.world.path("app.log.1")).unwrap();
        }
        if exists(&self.world, "app.log") {
            if by_copy {
                fs::copy(self.world.path("app.log"), self.world.path("app.log.1")).unwrap();
                self.world.write("app.log", "");
            } else {
                self.world.rename("app.log", "app.log.1");
            }
        }
        self.open_line = false;
    }

    /// As an editor does: the same bytes in another file of the same name.
    fn rewrite(&mut self) {
        if let Ok(bytes) = fs::read(self.world.path("app.log")) {
            let bytes = if self.dice.roll(2) == 0 { bytes } else { self.packed(&bytes) };
            self.world.write("swap", bytes);
            let unpacked = fs::read(self.world.path("app.log")).unwrap();
            self.world.rename("swap", "app.log");
            self.run();
            self.world.write("app.log", unpacked);
        }
    }

    fn run(&mut self) {
        let kills = self.dice.roll(3) == 0;
        let (seed, kill_at) = (self.dice.0, self.dice.roll(30) as usize);
        let faulty = self.dice.roll(2) == 0;
        let logs = self.world.path("");
        self.world.now_ms += 1;
        let _: Option<Report> = self.world.run_with(&[&logs], move |number| {
            let mut dice = Dice(seed ^ (number as u64) << 20);
            let polls = dice.roll(5) as u32;
            let fault = match dice.roll(40) {
                _ if kills && number == kill_at => Fault::Killed { appended: dice.roll(2) == 0 },
                0 if faulty => Fault::LostAnswer,
                1 if faulty => Fault::Refused,
                2 if faulty => Fault::Unavailable,
                _ => Fault::None,
            };
            (polls, fault)
        });
    }

    fn step(&mut self) {
        match self.dice.roll(10) {
            0..=3 => self.write_lines(),
            4 => self.rotate(false),
            5 => self.rotate(true),
            6 => self.rewrite(),
            _ => self.run(),
        }
    }

    fn check(&mut self) {
        let report = self.world.run();
        assert_eq!(failures(&report), [""; 0], "seed {}", self.seed);
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for line in &self.world.fold.counted {
            assert!(line.matches('L').count() <= 1, "seed {}: lines were joined: {line}", self.seed);
            if let Some(number) = line.strip_prefix('L').and_then(|rest| rest.split(';').next()) {
                *seen.entry(number.parse().unwrap()).or_default() += 1;
            }
        }
        for number in 1..=self.written {
            let times = seen.get(&number).copied().unwrap_or(0);
            assert_eq!(times, 1, "seed {}: line {number} of {} was counted {times} times", self.seed, self.written);
        }
    }
}

#[test]
fn every_line_is_counted_once_whatever_happens() {
    for seed in 0..SEEDS {
        let mut story = Story::new(seed);
        for _ in 0..5 + story.dice.roll(15) {
            story.step();
        }
        story.check();
    }
}
