//! An alarm that rings and falls silent again, as people and programs see it.

use std::time::{Duration, Instant};

use crate::{
    history::{self, ALARM, Rows},
    logs::NONE,
    program::Folder,
};

/// A server answers before it has folded what the stream has.
const FOLDED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_alarm_rings_and_falls_silent_again_with_its_reasons() {
    let folder = Folder::new();
    // The lines and the ticks stand on the stream; the program folds them, and decides.
    let expected = history::live(&folder.data, 2, Rows::Definition);
    let server = folder.up(NONE);
    let deadline = Instant::now() + FOLDED_WITHIN;
    let alarm = loop {
        let alarm = folder.run("alarms", [ALARM, "--json"]).exits(0).json();
        if alarm["state"] == "INSUFFICIENT_DATA" && alarm["transitions"].as_array().unwrap().len() > 1 {
            break alarm;
        }
        assert!(Instant::now() < deadline, "it has not come to its end: {alarm}");
    };
    assert_eq!(alarm["transitions"], expected);
    let (rang, fell_silent) = (&expected[1], &expected[2]);
    assert_eq!((&rang["from"], &rang["to"]), (&"INSUFFICIENT_DATA".into(), &"ALARM".into()));
    assert_eq!((&fell_silent["from"], &fell_silent["to"]), (&"ALARM".into(), &"OK".into()));
    let reason = |change: &serde_json::Value| change["reason"].as_str().unwrap().to_owned();
    assert!(reason(rang).contains("Threshold Crossed: 2 out of the last 3 datapoints [500.0"), "{rang}");
    assert!(rang["reasonData"]["threshold"].as_f64() == Some(100.0), "{rang}");
    // The same for people, and for who asks the API.
    let said = folder.run("alarms", [ALARM]).exits(0);
    assert!(said.out.starts_with("slow is INSUFFICIENT_DATA since "), "{said:?}");
    for change in [rang, fell_silent] {
        let time = change["time"].as_str().unwrap();
        let line = said.out.lines().find(|line| line.starts_with(time)).unwrap_or_else(|| panic!("{time}: {said:?}"));
        for word in [change["from"].as_str().unwrap(), change["to"].as_str().unwrap(), &reason(change)] {
            assert!(line.contains(word), "`{word}` is missing: {line}");
        }
    }
    let answer = server.get(&format!("/alarms/{ALARM}"));
    assert_eq!((answer.status, &answer.json()["transitions"]), (200, &expected));
    server.stop().exits(0);
    folder.verifies();
}
