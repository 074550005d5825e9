//! A first answer from a cold start, and where its time goes. Asserts the answer alone; the times are for `design.md`, of programs that were built to be
//! deployed: `WEIR_FUNCTIONS` names their folder.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    cloud::{API, CONSUMER, Cloud, TICKER, batches, lines},
    lambda::Function,
    mapping::{TIME, event, recorded},
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
    for (built, event) in [(CONSUMER, &records), (TICKER, &json!({})), (API, &health)] {
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
            assert!(
                answer["batchItemFailures"] == json!([]) || answer["definitions"] == "0" || answer["statusCode"] == 200,
                "{answer}"
            );
        }
    }
}
