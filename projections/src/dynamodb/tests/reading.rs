//! Entries of objects that are being read: by several readers at once, and by some that die.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aws_sdk_dynamodb::types::AttributeValue;
use events::identity::{Origin, OriginKind};

use crate::dynamodb::{DynamoDb, Entry, Reached};

use super::{
    gate::{Act, Gate, wait},
    laws::{again, dynalite, ministack, open, prefix, today},
};

fn object(version: &str) -> Origin {
    Origin { kind: OriginKind::Object, name: "logs/a b/5".into(), version: version.into() }
}

fn begin(store: &DynamoDb, reader: &str) -> Reached {
    wait(store.begin_object("local", &object("1"), reader)).unwrap()
}

fn stands(store: &DynamoDb) -> (Reached, Vec<String>) {
    let Entry { reached, under_way } = wait(store.object("local", &object("1"))).unwrap().unwrap();
    (reached, under_way)
}

#[test]
fn an_entry_only_goes_forward_and_names_who_has_not_said_how_it_ended() {
    for endpoint in [dynalite(), ministack()] {
        let store = open(endpoint, &prefix());
        assert_eq!(wait(store.object("local", &object("1"))), Ok(None));
        assert_eq!(begin(&store, "a"), Reached::Byte(0));
        assert_eq!(begin(&store, "a"), Reached::Byte(0), "once more changes nothing");
        let durable = |end| wait(store.object_is_durable("local", &object("1"), end)).unwrap();
        durable(70);
        // Another reads the same at the same time, from where the first was.
        assert_eq!(begin(&store, "b"), Reached::Byte(70));
        durable(90);
        durable(80);
        assert_eq!(stands(&store), (Reached::Byte(90), vec!["a".into(), "b".into()]));
        wait(store.leave_object("local", &object("1"), "a", 85)).unwrap();
        assert_eq!(stands(&store), (Reached::Byte(90), vec!["b".into()]), "b died, for all that is known");
        wait(store.leave_object("local", &object("1"), "b", 6 << 32)).unwrap();
        assert_eq!(stands(&store), (Reached::Byte(6 << 32), vec![]));
        // It is read to its end while another begins.
        assert_eq!(begin(&store, "c"), Reached::Byte(6 << 32));
        wait(store.finish_object("local", &object("1"))).unwrap();
        durable(7 << 32);
        wait(store.leave_object("local", &object("1"), "c", 7 << 32)).unwrap();
        assert_eq!(stands(&store), (Reached::End, vec![]));
        assert_eq!(begin(&store, "d"), Reached::End);
        assert_eq!(stands(&store), (Reached::End, vec![]));
        // Another version is another object, and so is another tenant's.
        assert_eq!(wait(store.object("local", &object("2"))), Ok(None));
        assert_eq!(wait(store.object("other", &object("1"))), Ok(None));
        // An entry that has expired is not made again by who ends.
        wait(store.leave_object("local", &object("2"), "a", 5)).unwrap();
        assert_eq!(wait(store.object("local", &object("2"))), Ok(None));
    }
}

#[test]
fn an_entry_is_begun_once_though_the_answer_is_lost_and_expires_after_a_queue_has_given_up() {
    let prefix = prefix();
    let direct = open(dynalite(), &prefix);
    let lost = AtomicBool::new(false);
    let gate = Gate::before(dynalite(), move |request| {
        let is_first = request.operation == "UpdateItem" && !lost.swap(true, SeqCst);
        if is_first { Act::PassAndCut } else { Act::Pass }
    });
    let store = again(&gate.endpoint, &prefix);
    assert_eq!(begin(&store, "a"), Reached::Byte(0));
    assert_eq!(stands(&direct), (Reached::Byte(0), vec!["a".into()]));
    let request = direct.client.scan().table_name(&direct.state);
    let items = wait(request.send()).unwrap().items.unwrap();
    let [item] = &items[..] else { panic!("{items:?}") };
    assert_eq!(item["ExpiresAt"], AttributeValue::N(((i64::from(today().0) + 16) * 86_400).to_string()));
    assert_eq!(item["Name"], AttributeValue::S("logs/a b/5 (1)".into()));
}
