//! Options that name a stream and rows on AWS: what of them belongs together, and what a program says that was built without AWS.

use crate::program::{Folder, say, weir};

const PAIR: [&str; 4] = ["--stream", "kinesis://logs", "--store", "dynamodb://logs"];

#[test]
fn half_a_pair_and_options_that_contradict_it_are_refused_before_anything_is_made() {
    let folder = Folder::new();
    let file = folder.file("app.log", "one line\n");
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["metrics", "--stream", "kinesis://logs"], &["kinesis://logs", "--store dynamodb://PREFIX", "WEIR_STORE"]),
        (
            &["ingest", file, "--store", "dynamodb://logs"],
            &["dynamodb://logs", "--stream kinesis://NAME", "WEIR_STREAM"],
        ),
        (&["alarms", "--no-create"], &["--no-create", "--stream kinesis://NAME"]),
        (&["metrics", "--stream", "", "--store", ""], &["--stream and --store are empty"]),
        (
            &["verify", "--url", "http://127.0.0.1:1", PAIR[0], PAIR[1], PAIR[2], PAIR[3]],
            &["http://127.0.0.1:1", "--url, or --stream"],
        ),
        (&["up", "--confirm-clock", PAIR[0], PAIR[1], PAIR[2], PAIR[3]], &["--confirm-clock is for a data folder"]),
    ];
    for (arguments, words) in cases {
        let said = say(weir(folder.root.path()).args(arguments).args(["--data"]).arg(&folder.data)).exits(2);
        assert_eq!(said.out, "", "{arguments:?}");
        said.complains(words);
        assert!(!folder.data.exists(), "{arguments:?}");
    }
    // A file that cannot be read is no reason to be asked for the rest.
    let said = say(weir(folder.root.path()).args(["metrics"]).env("WEIR_STREAM", "kinesis://logs")).exits(2);
    said.complains(&["kinesis://logs", "WEIR_STORE"]);
}

#[cfg(not(feature = "aws"))]
#[test]
fn a_program_without_aws_says_how_to_build_one_with_it() {
    let folder = Folder::new();
    let (file, alarms) = (folder.file("app.log", "one line\n"), folder.file("alarm.json", "{}"));
    let (file, alarms) = (file.to_str().unwrap(), alarms.to_str().unwrap());
    let commands: [&[&str]; 6] = [
        &["up", "--listen", "127.0.0.1:0"],
        &["ingest", file],
        &["metrics"],
        &["verify"],
        &["apply", alarms],
        &["alarms"],
    ];
    for command in commands {
        let said = say(weir(folder.root.path()).args(command).args(PAIR)).exits(2);
        said.complains(&["kinesis://logs and dynamodb://logs", "--features aws"]);
        let by_environment = [("WEIR_STREAM", PAIR[1]), ("WEIR_STORE", PAIR[3])];
        let said = say(weir(folder.root.path()).args(command).envs(by_environment)).exits(2);
        said.complains(&["kinesis://logs and dynamodb://logs", "--features aws"]);
    }
}
