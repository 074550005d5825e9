//! What browsers, load balancers and people who mistype see.

use axum::{body::Body, http::Request};

use super::{ACME, Server, lines};
use crate::operator::Check;

#[tokio::test]
async fn where_nothing_is_it_is_said_what_there_is() {
    let server = Server::open();
    let answer = server.get("/metric").await;
    let message = answer.refused(404, "not_found");
    assert!(message.starts_with("nothing is at GET /metric; there is GET /"), "{message}");
    for (method, path, allowed) in [
        ("PUT", "/metrics", "GET, HEAD, POST, OPTIONS"),
        ("GET", "/ingest", "POST, OPTIONS"),
        ("HEAD", "/ingest", "POST, OPTIONS"),
        ("DELETE", "/alarms/a", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("POST", "/runs/r", "GET, HEAD, OPTIONS"),
        ("TRACE", "/health", "GET, HEAD, OPTIONS"),
        ("BREW", "/balance", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/runs/r", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/metrics", "GET, HEAD, POST, OPTIONS"),
        ("OPTIONS", "*", "GET, HEAD, POST, OPTIONS"),
    ] {
        let answer = server.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
        match method {
            "OPTIONS" => assert_eq!(answer.status.as_u16(), 204),
            "HEAD" => assert_eq!(answer.status.as_u16(), 405),
            _ => assert_eq!(
                answer.refused(405, "method_not_allowed"),
                format!("{method} is not allowed at {path}; allowed: {allowed}")
            ),
        }
    }
    for (method, path) in [
        ("OPTIONS", "/metric"),
        ("OPTIONS", "/runs/"),
        ("OPTIONS", "/runs/a/b"),
        ("PUT", "/runs/a/b"),
        ("GET", "/runs/a/b"),
    ] {
        let answer = server.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await;
        answer.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_head_request_has_the_headers_of_the_answer_and_no_body() {
    let server = Server::open();
    for path in ["/metrics", "/health", "/"] {
        let get = server.get(path).await;
        let head = server.send(Request::head(path).body(Body::empty()).unwrap()).await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"], "{path}");
    }
}

#[tokio::test]
async fn every_answer_is_what_it_says_and_stays_with_who_asked() {
    let server = Server::with_tokens();
    for answer in [
        server.get("/").await,
        server.get("/health").await,
        server.get("/metrics").await,
        server.get_as(ACME, "/metrics").await,
        server.get_as(ACME, "/nothing").await,
        server.post_as(ACME, "/ingest", "a line\n").await,
        server.send(Request::options("/metrics").body(Body::empty()).unwrap()).await,
    ] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers[name], value, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn health_says_what_was_checked_and_how_far_behind() {
    let server = Server::open();
    let well = server.get("/health").await;
    assert_eq!((well.status.as_u16(), &well.json["ok"], &well.json["behindMs"]), (200, &true.into(), &7.into()));
    let ill = Check { name: "consumer".into(), ok: false, detail: "it stopped".into() };
    server.fake.checks.lock().unwrap().push(ill);
    let answer = server.get("/health").await;
    assert_eq!((answer.status.as_u16(), &answer.json["ok"]), (503, &false.into()));
    assert_eq!(answer.json["checks"][1]["detail"], "it stopped");
}

#[tokio::test]
async fn the_page_names_every_route_and_asks_nobody_else() {
    let server = Server::open();
    let page = server.get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    for route in ["/metrics", "/ingest", "/runs/", "/balance", "/health", "/alarms", "/definitions", "/verify"] {
        assert!(page.text.contains(route), "{route}");
    }
    let foreign = page.text.matches("//").count();
    let known = page.text.matches("http://www.w3.org/2000/svg").count() + page.text.matches("// ").count();
    assert_eq!(foreign, known, "no address but the namespace of SVG, which nobody fetches");
    assert!(page.text.lines().count() < 200);
}

/// The digests of a page's one script and one style, as a policy names them.
const DIGESTS: &str = r#"
import base64, hashlib, re, sys
page = sys.argv[1]
for name in ["script", "style"]:
    [inside] = re.findall(f"<{name}>(.*?)</{name}>", page, re.S)
    print(f"{name}-src 'sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() + "';")
"#;

#[tokio::test]
async fn only_the_pages_own_script_runs_and_it_makes_no_markup_of_what_it_is_told() {
    let server = Server::open();
    // A service may be named so.
    let name = "<img src=x onerror=alert(1)>";
    server.post("/ingest", lines(name, 3)).await.ok();
    let items = server.get("/metrics?metric=lines").await.ok()["items"].clone();
    assert_eq!(items[0]["service"], name, "it comes as it is, in JSON that no browser takes for markup");
    let page = server.get("/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    let python = std::process::Command::new("python3").args(["-c", DIGESTS, &page.text]).output().unwrap();
    let digests = String::from_utf8(python.stdout).unwrap();
    assert_eq!(digests.lines().count(), 2, "{}", String::from_utf8_lossy(&python.stderr));
    for directive in
        ["default-src 'none';", "base-uri 'none';", "form-action 'none';"].into_iter().chain(digests.lines())
    {
        assert!(policy.contains(directive), "{directive} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for way_in in
        ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "srcdoc", "javascript:"]
    {
        assert!(!page.text.contains(way_in), "{way_in}");
    }
    assert!(!page.text.contains(" style="), "a style that stands in the markup has no digest");
}

fn from(origin: &str, host: &str) -> Request<Body> {
    let request = Request::post("/ingest").header("host", host);
    let request = if origin.is_empty() { request } else { request.header("origin", origin) };
    request.body(Body::from("a line\n")).unwrap()
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_from_a_machine_s_own_server() {
    let server = Server::open();
    for (origin, host) in [
        ("https://evil.example", "127.0.0.1:7777"),
        ("null", "127.0.0.1:7777"),
        ("http://localhost.evil.example", "localhost:7777"),
        ("http://127.0.0.1.evil.example", "localhost:7777"),
        ("", "evil.example:7777"),
        ("", "localhost.evil.example"),
        ("http://localhost:80@evil.example", "localhost:7777"),
        ("", "localhost:7777@evil.example"),
        ("", "127.0.0.1:evil.example"),
        ("", "0x7f000001"),
        ("", ""),
    ] {
        let answer = server.send(from(origin, host)).await;
        answer.refused(403, "foreign_site");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    let twice = Request::post("/ingest").header("host", "localhost").header("host", "evil.example");
    server.send(twice.body(Body::empty()).unwrap()).await.refused(403, "foreign_site");
    let elsewhere = Request::post("http://evil.example/ingest").header("host", "localhost");
    server.send(elsewhere.body(Body::empty()).unwrap()).await.refused(403, "foreign_site");
    let browses = |mode: &str| {
        let request = Request::get("/metrics").header("host", "127.0.0.1:7777").header("sec-fetch-site", "cross-site");
        request.header("sec-fetch-mode", mode).body(Body::empty()).unwrap()
    };
    server.send(browses("no-cors")).await.refused(403, "foreign_site");
    server.send(browses("navigate")).await.ok();
    assert_eq!(server.fake.puts().len(), 0);
    for (origin, host) in [
        ("http://localhost:3000", "localhost:7777"),
        ("http://127.0.0.1:7777", "127.0.0.1:7777"),
        ("http://[::1]:7777", "[::1]:7777"),
        ("", "[::1]"),
        ("", "192.168.1.7:7777"),
    ] {
        let answer = server.send(from(origin, host)).await;
        answer.ok();
        let shared = answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(shared.unwrap_or_default(), origin);
    }
}

#[tokio::test]
async fn a_page_with_a_token_may_ask_from_anywhere() {
    let server = Server::with_tokens();
    let preflight =
        Request::options("/metrics").header("origin", "https://grafana.example").body(Body::empty()).unwrap();
    let answer = server.send(preflight).await;
    assert_eq!(answer.status.as_u16(), 204);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST, OPTIONS");
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization, content-type");
    let request = Request::get("/metrics").header("origin", "https://grafana.example");
    let request = request.header("authorization", format!("Bearer {ACME}")).body(Body::empty()).unwrap();
    assert_eq!(server.send(request).await.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn a_server_answers_on_its_socket_and_ends_once_open_requests_are_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = Server::open();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(crate::serve(listener, server.router.clone(), async { drop(stopped.await) }));
    let shut = server.fake.gate.write().await;
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("POST /ingest HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 7\r\n\r\na line\n");
    client.write_all(request.as_bytes()).await.unwrap();
    // The append waits at the gate when the server is told to stop.
    while server.fake.begun.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    drop(shut);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    serving.await.unwrap().unwrap();
}
