//! `weir apply` and `weir alarms`.

use std::path::{Path, PathBuf};

use crate::{
    logs::NONE,
    program::{Folder, Said},
};

fn apply(folder: &Folder, files: &[&Path]) -> Said {
    folder.run("apply", files)
}

fn definition(name: &str, threshold: f64) -> String {
    format!(
        r#"{{"AlarmName": "{name}", "ServiceName": "shop", "MetricName": "errors", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 3,
            "DatapointsToAlarm": 2, "Threshold": {threshold}, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}}"#
    )
}

#[test]
fn a_definition_is_in_force_when_apply_returns_and_its_state_can_be_read() {
    let folder = Folder::new();
    folder.up(NONE).stop().exits(0);
    let said = folder.run("alarms", NONE).exits(0).complains(&["no alarms", "weir apply FILE"]);
    assert_eq!(said.out, "");
    let one = folder.file("one.json", definition("shop-errors", 5.0));
    let said = apply(&folder, &[&one]).exits(0);
    assert!(
        said.out.contains(one.to_str().unwrap()) && said.out.contains("alarm shop-errors applied, revision "),
        "{said:?}"
    );
    let several = folder.file("several.json", format!("[{}, {}]", definition("b", 1.0), definition("c", 2.0)));
    let exported = folder.file("exported.json", format!(r#"{{"MetricAlarms": [{}]}}"#, definition("d", 3.0)));
    let said = apply(&folder, &[&several, &exported]).exits(0);
    assert_eq!(said.out.lines().count(), 3, "{said:?}");
    let alarms = folder.run("alarms", ["--json"]).exits(0).json_lines();
    let names: Vec<_> = alarms.iter().map(|alarm| alarm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "c", "d", "shop-errors"]);
    assert!(alarms.iter().all(|alarm| alarm["state"] == "INSUFFICIENT_DATA"), "{alarms:?}");
    let alarm = folder.run("alarms", ["shop-errors", "--json"]).exits(0).json();
    assert_eq!(alarm["definition"]["Threshold"].as_f64(), Some(5.0));
    // Applied again it is another revision of the same alarm, and its state stays.
    folder.file("one.json", definition("shop-errors", 6.0));
    apply(&folder, &[&one]).exits(0);
    let changed = folder.run("alarms", ["shop-errors", "--json"]).exits(0).json();
    assert_eq!((changed["definition"]["Threshold"].as_f64(), &changed["state"]), (Some(6.0), &alarm["state"]));
    assert_ne!(changed["revision"], alarm["revision"]);
    let said = folder.run("alarms", ["shop-errors"]).exits(0);
    // It is evaluated at the next minute, which may or may not have come.
    let rest = said.out.lines().next().unwrap().strip_prefix("shop-errors is INSUFFICIENT_DATA");
    assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" since 20")), "{said:?}");
    folder.run("alarms", ["nobody"]).exits(2).complains(&["`nobody`", "weir alarms"]);
    folder.verifies();
}

#[test]
fn a_bad_definition_names_what_is_wrong_and_nothing_of_its_file_is_applied() {
    let folder = Folder::new();
    let without = |field: &str| {
        let mut value: serde_json::Value = serde_json::from_str(&definition("x", 1.0)).unwrap();
        value.as_object_mut().unwrap().remove(field);
        value.to_string()
    };
    let with = |field: &str, value: serde_json::Value| {
        let mut definition: serde_json::Value = serde_json::from_str(&definition("x", 1.0)).unwrap();
        definition[field] = value;
        definition.to_string()
    };
    let good = folder.file("good.json", definition("good", 1.0));
    let cases = [
        (without("AlarmName"), "AlarmName"),
        (without("Threshold"), "Threshold"),
        (with("Period", 61.into()), "Period"),
        (with("EvaluationPeriods", 0.into()), "EvaluationPeriods"),
        (with("DatapointsToAlarm", 9.into()), "DatapointsToAlarm"),
        (with("ComparisonOperator", "Above".into()), "Above"),
        (with("TreatMissingData", "breaching".into()), "breaching"),
        (with("Treshold", 1.into()), "Treshold"),
        (format!("[{}, {}]", definition("kept-out", 1.0), without("Period")), "Period"),
        (format!("[{0}, {0}]", definition("twice", 1.0)), "twice"),
        ("[]".to_owned(), "0 definitions"),
        ("{\"AlarmName\": ".to_owned(), "not JSON"),
        ("x".repeat(5 << 20), "at most 4194304 bytes"),
    ];
    for (number, (text, word)) in cases.into_iter().enumerate() {
        let bad: PathBuf = folder.file(&format!("bad-{number}.json"), text);
        apply(&folder, &[&bad]).exits(1).complains(&[bad.to_str().unwrap(), word]);
    }
    let said = folder.run("alarms", ["--json"]).exits(0);
    assert_eq!(said.out, "", "nothing of a bad file is in");
    // Of several files the good ones are in, and each bad one is named.
    let bad = folder.file("bad.json", without("Period"));
    let no_json = folder.file("no.json", "no");
    let missing = folder.path("missing.json");
    let said = apply(&folder, &[&bad, &missing, &no_json, &good]).exits(1);
    let said = said.complains(&[bad.to_str().unwrap(), "Period", missing.to_str().unwrap(), no_json.to_str().unwrap()]);
    assert!(said.out.contains("alarm good applied"), "{said:?}");
    assert_eq!(folder.run("alarms", ["--json"]).exits(0).json_lines().len(), 1);
}

#[test]
fn files_of_which_none_can_be_read_make_no_data_folder() {
    let folder = Folder::new();
    apply(&folder, &[&folder.path("missing.json")]).exits(1).complains(&["failed: ", "missing.json"]);
    assert!(!folder.data.exists());
}
