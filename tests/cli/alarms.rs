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
        (1, without("AlarmName"), "AlarmName"),
        (1, without("Threshold"), "Threshold"),
        (1, with("Period", 61.into()), "Period"),
        (1, with("EvaluationPeriods", 0.into()), "EvaluationPeriods"),
        (1, with("DatapointsToAlarm", 9.into()), "DatapointsToAlarm"),
        (1, with("ComparisonOperator", "Above".into()), "Above"),
        (1, with("TreatMissingData", "breaching".into()), "breaching"),
        (1, with("Treshold", 1.into()), "Treshold"),
        (1, format!("[{}, {}]", definition("kept-out", 1.0), without("Period")), "Period"),
        (1, format!("[{0}, {0}]", definition("twice", 1.0)), "twice"),
        (1, "[]".to_owned(), "0 definitions"),
        (2, "{\"AlarmName\": ".to_owned(), "not JSON"),
    ];
    for (number, (code, text, word)) in cases.into_iter().enumerate() {
        let bad: PathBuf = folder.file(&format!("bad-{number}.json"), text);
        apply(&folder, &[&bad]).exits(code).complains(&[bad.to_str().unwrap(), word]);
    }
    let said = folder.run("alarms", ["--json"]).exits(0);
    assert_eq!(said.out, "", "nothing of a bad file is in");
    let missing = folder.path("missing.json");
    apply(&folder, &[&good, &missing]).exits(2).complains(&[missing.to_str().unwrap(), "nothing was applied"]);
    assert_eq!(folder.run("alarms", ["--json"]).exits(0).out, "");
    // Of several files the good ones are in, and the bad one is named.
    let bad = folder.file("bad.json", without("Period"));
    let said = apply(&folder, &[&bad, &good]).exits(1).complains(&[bad.to_str().unwrap(), "Period"]);
    assert!(said.out.contains("alarm good applied"), "{said:?}");
}
