//! The same request to the function, as each gateway hands it over, and to a process that serves as `weir up` does, on one pair: the same answers.

use std::{
    io::{Read, Write},
    mem::ManuallyDrop,
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use weir::{
    System,
    aws::{FAILOVER, Options, Pair, Role},
};

use crate::{
    cloud::{API, lines},
    lambda::Function,
    mapping::base64,
};

const TOKEN: &str = "0123456789abcdef-local";
const OTHER: &str = "0123456789abcdef-other";
/// Longer than any answer takes.
const TIME: Duration = Duration::from_secs(29);
/// The three events, and what stands before the path in each.
pub const GATEWAYS: [(&str, &str); 3] = [
    (include_str!("../events/rest.json"), "/prod"),
    (include_str!("../events/http.json"), "/live"),
    (include_str!("../events/url.json"), ""),
];

pub fn tokens() -> String {
    format!("local {TOKEN}\nother {OTHER}\n")
}

/// A request, as its client sends it.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    /// Names and values that are not encoded.
    query: Vec<(&'static str, String)>,
    token: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

pub fn ask(method: &'static str, path: &str) -> Request {
    let path = path.to_owned();
    Request { method, path, query: vec![], token: Some(TOKEN), headers: vec![], body: vec![] }
}

impl Request {
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    fn by(self, token: Option<&'static str>) -> Self {
        Self { token, ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    fn encoded_query(&self) -> String {
        let encoded = |text: &str| {
            let byte = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            };
            text.bytes().map(byte).collect::<String>()
        };
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        pairs.join("&")
    }

    fn all_headers(&self, host: &str) -> Vec<(String, String)> {
        let mut headers = vec![("Host".to_owned(), host.to_owned())];
        headers.extend(self.token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
        headers.extend(self.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        headers
    }

    /// As a gateway hands it over: bodies that are no text, and all of a REST API with binary types, in base64.
    pub fn event(&self, template: &str) -> Value {
        let mut event: Value = serde_json::from_str(template).unwrap();
        let context = event["requestContext"].clone();
        let headers = self.all_headers(context["domainName"].as_str().unwrap());
        let is_text = std::str::from_utf8(&self.body).is_ok();
        if !self.body.is_empty() {
            let text = || String::from_utf8(self.body.clone()).unwrap();
            event["body"] = json!(if is_text { text() } else { base64(&self.body) });
            event["isBase64Encoded"] = json!(!is_text);
        }
        if event["version"] == "2.0" {
            let stage = context["stage"].as_str().unwrap();
            let path = if stage == "$default" { self.path.clone() } else { format!("/{stage}{}", self.path) };
            (event["rawPath"], event["rawQueryString"]) = (json!(path), json!(self.encoded_query()));
            event["requestContext"]["http"]["method"] = json!(self.method);
            event["requestContext"]["http"]["path"] = json!(path);
            for (name, value) in headers {
                event["headers"][name.to_lowercase()] = json!(value);
            }
            return event;
        }
        (event["path"], event["httpMethod"]) = (json!(self.path), json!(self.method));
        event["requestContext"]["path"] = json!(format!("/prod{}", self.path));
        event["requestContext"]["httpMethod"] = json!(self.method);
        for (name, value) in headers {
            event["headers"][&name] = json!(value);
            event["multiValueHeaders"][&name] = json!([value]);
        }
        for (name, value) in &self.query {
            event["queryStringParameters"][name] = json!(value);
            let all = self.query.iter().filter(|(of, _)| of == name).map(|(_, value)| value).collect::<Vec<_>>();
            event["multiValueQueryStringParameters"][name] = json!(all);
        }
        event
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u64,
    kind: Option<String>,
    allow: Option<String>,
    body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Without what is known only where it is folded.
    fn shown(&self) -> Self {
        let mut shown = self.clone();
        if let Ok(mut json) = serde_json::from_str::<Value>(&self.body) {
            if json.get("appliedThrough").is_some() {
                json["appliedThrough"] = Value::Null;
            }
            shown.body = json.to_string();
        }
        shown
    }
}

/// What the function answers, as the gateway sends it on.
pub fn of_function(function: &mut Function, event: &Value) -> Answer {
    let answer = function.invoke(event, TIME).answered();
    let header = |name: &str| {
        let multi = answer["multiValueHeaders"][name][0].as_str();
        multi.or(answer["headers"][name].as_str()).map(str::to_owned)
    };
    assert_eq!(answer["isBase64Encoded"], false, "an answer is text: {answer}");
    Answer {
        status: answer["statusCode"].as_u64().unwrap(),
        kind: header("content-type"),
        allow: header("allow"),
        body: answer["body"].as_str().unwrap_or_default().to_owned(),
    }
}

/// What the process answers, over its socket.
fn of_process(address: &str, request: &Request) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let query = request.encoded_query();
    let target = if query.is_empty() { request.path.clone() } else { format!("{}?{query}", request.path) };
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, target.replace(' ', "%20"));
    for (name, value) in request.all_headers(address) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(&request.body);
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line[name.len() + 2..].to_owned())
    };
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        kind: header("content-type"),
        allow: header("allow"),
        body: body.to_owned(),
    }
}

/// A pair on an emulator that plays both services, a process that serves and folds it, and a function on it.
struct Both {
    /// The system's threads work on it until the process ends.
    runtime: ManuallyDrop<tokio::runtime::Runtime>,
    system: Arc<System>,
    address: String,
    function: Function,
    _folder: tempfile::TempDir,
}

impl Both {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-web-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let endpoint = emulators::aws().endpoint.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = runtime.block_on(crate::cloud::config(&endpoint, &endpoint));
        let pair = Pair::parse(&format!("kinesis://{name}"), &format!("dynamodb://{name}")).unwrap();
        let options = Options { create: true, shards: None, role: Role::Worker, failover: FAILOVER, fan_out: false };
        let opened = runtime.block_on(System::open_on_aws_with(&config, &pair, options, folder.path(), |_| {}));
        let system = Arc::new(opened.unwrap());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = api::router(system.clone(), api::Access::tokens(&tokens()).unwrap());
        runtime.spawn(api::serve(listener, router, std::future::pending()));
        let function = Function::start(API, |command| {
            command
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test");
            command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_ENDPOINT_URL", &endpoint);
            command.env("WEIR_STREAM", format!("kinesis://{name}")).env("WEIR_STORE", format!("dynamodb://{name}"));
            command.env("WEIR_TOKENS", tokens());
        });
        Self { runtime: ManuallyDrop::new(runtime), system, address, function, _folder: folder }
    }

    /// Asserts that the function answers as the process does, whichever gateway stands before it.
    #[track_caller]
    fn same(&mut self, request: &Request) -> Answer {
        let expected = of_process(&self.address, request).shown();
        for (template, before) in GATEWAYS {
            let answer = of_function(&mut self.function, &request.event(template));
            assert_eq!(answer.shown(), expected, "{request:?} behind `{before}`");
        }
        expected
    }

    #[track_caller]
    fn function(&mut self, request: &Request) -> Answer {
        of_function(&mut self.function, &request.event(GATEWAYS[0].0))
    }

    /// Waits until all that is durable can be read.
    fn catch_up(&self) {
        assert!(self.runtime.block_on(self.system.caught_up(Duration::from_secs(100))).unwrap());
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    std::fs::write(&path, text).unwrap();
    assert!(std::process::Command::new("gzip").arg(&path).status().unwrap().success());
    std::fs::read(Path::new(&format!("{}.gz", path.display()))).unwrap()
}

#[test]
fn the_three_kinds_of_events_are_answered_as_the_same_requests_are_over_a_socket() {
    let mut both = Both::new();
    // Text, bytes in base64, and values: through the function, and read by both.
    for (number, (template, _)) in GATEWAYS.into_iter().enumerate() {
        let text = lines("shop", 0..120);
        for body in [text.as_bytes().to_vec(), gzip(&text)] {
            let sent = ask("POST", "/ingest").with("run", format!("r-{number}")).body(body);
            let answer = of_function(&mut both.function, &sent.event(template));
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        let value = json!({"service": "shop", "metrics": [{"name": "carts", "value": number, "timestamp": "2026-01-01T00:00:00Z"}]});
        let answer = of_function(&mut both.function, &ask("POST", "/metrics").body(value.to_string()).event(template));
        assert!([200, 202, 400].contains(&answer.status), "{answer:?}");
    }
    both.catch_up();
    let settled = both.function(&ask("GET", "/runs/r-1")).json();
    assert_eq!((&settled["settled"], settled["elsewhere"].as_u64() >= Some(2)), (&true.into(), true), "{settled}");

    let metrics = ask("GET", "/metrics").with("service", "shop").with("metric", "lines");
    let counted = both.same(&metrics).json();
    let count: f64 = counted["items"].as_array().unwrap().iter().map(|item| item["sum"].as_f64().unwrap()).sum();
    assert_eq!(count, 720.0, "{counted}");
    both.same(&metrics.clone().with("statistics", "Sum,p99").with("period", 300).with("limit", 1));
    both.same(&metrics.clone().with("startTime", "2026-01-01T00:00:00+00:00").with("endTime", "2026-01-01T00:01:00Z"));
    // A parameter that comes twice, one that nobody knows, one whose name and value have to be encoded.
    both.same(&metrics.clone().with("service", "other"));
    both.same(&ask("GET", "/metrics").with("servise", "shop"));
    both.same(&ask("GET", "/metrics").with("service", "a b&c=d+é/%"));
    both.same(&ask("GET", "/metrics").with("service", "shop").by(Some(OTHER)));
    both.same(&ask("GET", "/metrics").by(None));
    both.same(&ask("GET", "/metrics").by(Some("0123456789abcdef-wrong")));
    both.same(&ask("GET", "/alarms"));
    both.same(&ask("GET", "/alarms/no such alarm"));
    both.same(&ask("GET", "/balance"));
    both.same(&ask("GET", "/"));
    both.same(&ask("GET", "/prod/metrics").by(None));
    both.same(&ask("GET", "/nothing"));
    both.same(&ask("DELETE", "/metrics"));
    both.same(&ask("OPTIONS", "/metrics").header("Origin", "https://example.com"));
    both.same(&ask("POST", "/metrics").body("{"));
    both.same(&ask("POST", "/ingest").with("service", "x/../y\u{0}").body("a line\n"));
    both.same(&ask("POST", "/definitions").body("[]"));
    both.same(&ask("POST", "/verify").by(Some(OTHER)));
}

#[test]
fn what_waits_for_a_fold_is_answered_honestly_where_nobody_folds() {
    let mut both = Both::new();
    let health = both.function(&ask("GET", "/health"));
    assert_eq!((health.status, &health.json()["behindMs"]), (200, &Value::Null), "{health:?}");
    let consumer =
        health.json()["checks"].as_array().unwrap().iter().find(|check| check["name"] == "consumer").cloned();
    assert!(consumer.unwrap()["detail"].as_str().unwrap().contains("neither folds nor ticks"));
    let verify = both.function(&ask("POST", "/verify"));
    assert_eq!(verify.status, 503);
    assert!(verify.body.contains("run `weir verify` with the same --stream"), "{verify:?}");
    let unknown = both.function(&ask("GET", "/runs/nobody"));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &"unknown_run".into()));
    let metrics = both.function(&ask("GET", "/metrics")).json();
    assert_eq!(metrics["appliedThrough"], json!({}), "how far the rows are is not known here");

    // Somebody has the process commit while the function waits.
    let is_over = Arc::<AtomicBool>::default();
    let (told, address) = (is_over.clone(), both.address.clone());
    let waiting = std::thread::spawn(move || {
        while !told.load(Ordering::SeqCst) {
            of_process(&address, &ask("GET", "/runs/nobody"));
        }
    });
    let alarm = json!({"AlarmName": "slow", "ServiceName": "app", "MetricName": "lines", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1,
        "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold"});
    let applied = both.function(&ask("POST", "/definitions").body(alarm.to_string()));
    is_over.store(true, Ordering::SeqCst);
    waiting.join().unwrap();
    assert_eq!((applied.status, &applied.json()["applied"][0]["name"]), (200, &"slow".into()), "{applied:?}");
    assert_eq!(applied.json()["inForce"], true, "{applied:?}");
    both.catch_up();
    let alarms = both.same(&ask("GET", "/alarms")).json();
    assert_eq!(alarms["alarms"][0]["name"], "slow", "{alarms}");
}
