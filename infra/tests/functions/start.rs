//! A first answer from a cold start, what is asked of AWS before it, and where its time goes. Asserts answers and calls; the times are for `design.md`, of
//! programs that were built to be deployed: `WEIR_FUNCTIONS` names their folder.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    cloud::{API, CONSUMER, Cloud, NOTIFICATION, TICKER, batches, lines},
    emulated::done,
    lambda::Function,
    mapping::{TIME, event, recorded},
    notification::announcement,
    way::{Call, Guard, Way},
};

/// Cold starts of each function.
const STARTS: usize = 5;
const TOKEN: &str = "local 0123456789abcdef";

fn program(built: &str) -> String {
    let name = Path::new(built).file_name().unwrap().to_str().unwrap();
    std::env::var("WEIR_FUNCTIONS").map_or(built.to_owned(), |folder| format!("{folder}/{name}"))
}

#[test]
fn each_function_answers_its_first_event() {
    let cloud = Cloud::new(1);
    cloud.append(&batches("app.log", &lines("app", 0..600)));
    let records = event(&recorded(&cloud, "shardId-000000000000"));
    let mut health: Value = serde_json::from_str(include_str!("../events/url.json")).unwrap();
    (health["rawPath"], health["requestContext"]["http"]["method"]) = (json!("/health"), json!("GET"));
    let bucket = format!("{}-started", cloud.name);
    done("PUT", &format!("/{bucket}"), &[], &[]);
    done("PUT", &format!("/{bucket}/a.log"), &[], lines("other", 0..600).as_bytes());
    let announced = json!({"Records": [announcement(&bucket, "a.log")]});
    for (built, event) in [(CONSUMER, &records), (TICKER, &json!({})), (API, &health), (NOTIFICATION, &announced)] {
        let program = program(built);
        for _ in 0..STARTS {
            let begun = Instant::now();
            let mut function = Function::start(&program, |command| {
                cloud.lead(command);
                command.env("WEIR_TOKENS", TOKEN);
            });
            assert!(function.is_ready(), "{}", function.said());
            let ready = begun.elapsed();
            let answer = function.invoke(event, TIME).answered();
            let answered = begun.elapsed();
            println!(
                "{program}: asks for its first event after {ready:.0?}, answers after {:.0?} more",
                answered - ready
            );
            let is_answer = match built {
                TICKER => answer["definitions"] == "0",
                API => answer["statusCode"] == 200,
                _ => answer["batchItemFailures"] == json!([]),
            };
            assert!(is_answer, "{answer}");
        }
    }
}

/// Each call in its order: what is asked, and of which table.
#[derive(Default)]
struct Calls(Vec<String>);

impl Guard for Calls {
    fn goes(&mut self, call: &Call) -> bool {
        let of = call.asked["TableName"].as_str().map(|table| format!(" {table}")).unwrap_or_default();
        self.0.push(format!("{}{of}", call.action));
        true
    }
}

#[test]
fn a_cold_start_asks_what_it_has_to_know_once() {
    let cloud = Cloud::new(1);
    // The tables are bound to the stream by whoever works on them first.
    assert!(cloud.function(TICKER).is_ready());
    let table = |name: &str| format!("DescribeTable {}-{name}", cloud.name);
    let mut of_tables = ["ApplicationMetrics", "state", "checkpoints"].map(table).to_vec();
    // Whose rows these are and how long they are kept; which generations there are.
    of_tables.extend(["BatchGetItem", "BatchGetItem"].map(str::to_owned));
    for (program, asked) in [(CONSUMER, 5), (TICKER, 5), (API, 5), (NOTIFICATION, 4)] {
        let kinesis = Way::to(&emulators::kinesis().endpoint, Calls::default());
        let dynamodb = Way::to(&emulators::dynamodb().endpoint, Calls::default());
        let mut function = Function::start(program, |command| {
            cloud.lead(command);
            command.env("WEIR_TOKENS", TOKEN);
            command.env("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint);
            command.env("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.endpoint);
        });
        assert!(function.is_ready(), "{}", function.said());
        assert_eq!(kinesis.guard.lock().unwrap().0, ["DescribeStreamSummary", "ListShards"], "{program}");
        assert_eq!(dynamodb.guard.lock().unwrap().0, of_tables[..asked], "{program}");
    }
}
