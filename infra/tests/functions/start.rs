//! A first answer from a cold start, and where its time goes. Asserts the answer alone; the times are for `design.md`, of programs that were built to be
//! deployed: `WEIR_FUNCTIONS` names their folder.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    cloud::{API, CONSUMER, Cloud, NOTIFICATION, TICKER, batches, lines},
    emulated::done,
    lambda::Function,
    mapping::{TIME, event, recorded},
    notification::announcement,
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
