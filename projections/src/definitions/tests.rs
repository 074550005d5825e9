//! How much room a tenant has for alarms, one by one and together.
#![allow(clippy::unwrap_used)]

use super::*;

fn body(periods: u32) -> String {
    format!(
        r#"{{"AlarmName":"a","ServiceName":"s","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":{periods},
            "Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}}"#
    )
}

#[test]
fn a_tenant_has_room_for_so_many_alarms_and_one_that_is_removed_makes_some() {
    let mut room = Room::default();
    (0..ALARMS_MAX).for_each(|number| room.apply(ALARM, &number.to_string(), &body(1)).unwrap());
    assert_eq!(room.apply(ALARM, "more", &body(1)), Err(NoRoom::Alarms));
    room.apply(ALARM, "7", &body(2)).unwrap();
    room.apply(ALARM, "8", " null ").unwrap();
    room.apply(ALARM, "8", "null").unwrap();
    room.apply(ALARM, "more", &body(1)).unwrap();
    assert_eq!(room.apply(ALARM, "8", "{}"), Err(NoRoom::Alarms), "what cannot be read is one too");
    room.apply("of a newer program", "8", "{}").unwrap();
}

#[test]
fn all_alarms_together_look_back_so_far_and_no_further() {
    let mut room = Room::default();
    // 1,440 periods are evaluated, and a third more is read.
    for number in 0..26 {
        room.apply(ALARM, &number.to_string(), &body(1440)).unwrap();
    }
    let minutes = 27 * 1_920;
    assert_eq!(room.apply(ALARM, "more", &body(1440)), Err(NoRoom::Minutes { more: 1_920, minutes }));
    room.apply(ALARM, "0", &body(3)).unwrap();
    room.apply(ALARM, "more", &body(1440)).unwrap();
    let before = room.clone();
    assert!(room.apply(ALARM, "0", &body(1440)).is_err());
    assert_eq!(room, before);
}

#[test]
fn room_is_the_same_whether_definitions_were_applied_one_by_one_or_are_in_force() {
    let all: Vec<Definition> = [("a", body(3)), ("b", body(30)), ("a", "null".into()), ("c", body(1)), ("b", body(4))]
        .into_iter()
        .zip(1..)
        .map(|((name, body), number)| Definition {
            revision: SequenceNumber::from_parts(1, number),
            tenant: "t".into(),
            kind: ALARM.into(),
            name: name.into(),
            body,
            by: "me".into(),
            at_ms: 0,
        })
        .collect();
    let mut room = Room::default();
    all.iter().for_each(|definition| room.apply(ALARM, &definition.name, &definition.body).unwrap());
    assert_eq!(room, Room::of(in_force(&all, SequenceNumber::MAX)));
    assert_eq!(room, Room::of(&all));
}
