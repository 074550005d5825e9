//! One way to the system: its HTTP API, in this process or over a socket. Decides which of the two; knows no command.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use events::{
    pack::{Profile, Target},
    wire::Codec,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use weir::{OpenError, Options, System};

use super::{Failure, Token, Where, elsewhere, progress, sending::BATCH_BYTES, set, up};

/// Most bytes of an answer that is read: a page of 1,000 items is far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// So much is shown of an answer that is not a weir's.
const FOREIGN_CHARS_MAX: usize = 80;
/// How long to look for a `weir up` that left its address in the folder.
const PROBE: Duration = Duration::from_secs(2);

/// How often a `weir up` that begins or ends is looked for.
const SERVER_LOOK: Duration = Duration::from_millis(50);

/// A request was refused, or could not be carried out there.
#[derive(Debug)]
pub struct Refused {
    /// What was sent is wrong, and stays wrong.
    pub by_content: bool,
    /// What was asked for is not there.
    pub is_nothing: bool,
    /// In words.
    pub why: Failure,
}

/// The system that a command speaks to.
pub enum Client {
    /// Opened by this process, closed with it.
    Here { system: Arc<System>, router: Router },
    /// A running `weir up`.
    There { url: String, token: Option<Token>, pool: Box<Pool<HttpConnector, Full<Bytes>>> },
}

/// What a command is about to do: whether it may make what is not there. Who only reads is told that nothing is there, most often for a name that
/// was misspelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It puts something in.
    Add,
    /// It reads rows.
    Read,
    /// It compares rows with the stream.
    Verify,
}

/// Neither stream nor rows are there, and nobody is about to make them. A folder that cannot be looked at is for its opening to tell of.
fn is_empty(folder: &Path) -> bool {
    let is_missing = |name: &str| matches!(folder.join(name).try_exists(), Ok(false));
    is_missing("stream") && is_missing("rows.redb") && weir::holder(folder).is_none()
}

/// The data folder that is meant: as given, as in the environment, or in the user's data directory.
pub fn data_folder(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let of = |variable: &str| set(variable).map(PathBuf::from);
    given
        .map(Path::to_owned)
        .or_else(|| of("WEIR_DATA"))
        .or_else(|| of("XDG_DATA_HOME").map(|folder| folder.join("weir")))
        .or_else(|| of("HOME").map(|home| home.join(".local/share/weir")))
        .ok_or_else(|| Failure::new("no data folder: neither --data, WEIR_DATA nor HOME is set; give --data DIR"))
}

/// How this process calls itself.
fn who() -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    format!("weir {command}")
}

fn over_http(url: &str, token: Option<&Token>) -> Result<Client, Failure> {
    let url = url.trim_end_matches('/').to_owned();
    if !url.starts_with("http://") {
        return Err(Failure::new(format!(
            "{url}: this build speaks plain http:// only; give http://HOST:PORT, or reach a TLS address through a local proxy"
        )));
    }
    let token = token.filter(|token| !token.0.is_empty()).cloned();
    Ok(Client::There { url, token, pool: Box::new(Pool::builder(TokioExecutor::new()).build_http()) })
}

impl Client {
    /// The system that the options name: a URL, a pair on AWS, a `weir up` that has the folder open, or the folder itself.
    pub async fn connect(of: &Where, purpose: Purpose) -> Result<Self, Failure> {
        let pair = of.pair()?;
        if let Some(url) = of.url() {
            return over_http(&url, of.token.as_ref());
        }
        let folder = data_folder(of.data.as_deref())?;
        if let Some(pair) = pair {
            return elsewhere::open(&pair, &folder, elsewhere::How::default(), purpose).await.map(Self::here);
        }
        if let Some(running) = running(&folder, of.token.as_ref()).await {
            return Ok(running);
        }
        if purpose != Purpose::Add && is_empty(&folder) {
            return Err(Failure::new(format!(
                "there is nothing of weir in the data folder {}: `weir ingest PATH` makes one and reads logs into it, or name the right one with \
                 --data DIR",
                folder.display()
            )));
        }
        let options = Options { who: who(), ..Options::default() };
        let mut said = false;
        loop {
            let error = match progress::open(&folder, options.clone()).await {
                Ok(system) => {
                    progress::recovered(&system).await;
                    if of.data.is_none() && set("WEIR_DATA").is_none() {
                        eprintln!("data folder: {}", folder.display());
                    }
                    return Ok(Self::here(system));
                }
                Err(error @ OpenError::InUse(_)) => error,
                Err(error) => return Err(Failure::to_open(&folder, &error)),
            };
            // It may have begun to serve just now.
            if let Some(running) = running(&folder, of.token.as_ref()).await {
                return Ok(running);
            }
            let Some(holder) = weir::holder(&folder) else { continue };
            if !holder.starts_with(up::UP) {
                return Err(Failure::new(format!(
                    "{error} that serves no address ({holder}): wait for it, or run `weir up` and let both go through it"
                )));
            }
            if !std::mem::replace(&mut said, true) {
                eprintln!("waiting for {holder}, which begins or ends");
            }
            tokio::time::sleep(SERVER_LOOK).await;
        }
    }

    /// As `connect`, for who has what the stream no longer has read from an archive. What is wrong with that is said before a pair is opened, where it can
    /// be known then; and what was opened is closed in order.
    pub async fn connect_reading(of: &Where, purpose: Purpose, archive: Option<&str>) -> Result<Self, Failure> {
        let url = super::archive(archive);
        let Some(url) = url.filter(|_| archive.is_some() || of.url().is_none()) else {
            return Self::connect(of, purpose).await;
        };
        weir::check_archive(&url).map_err(|error| Failure::of(&error))?;
        if of.url().is_none() && of.pair()?.is_some() {
            weir::look_at_archive(&url).await.map_err(|error| Failure::of(&error))?;
        }
        let client = Self::connect(of, purpose).await?;
        match client.read_archive(&url, archive.is_some()).await {
            Ok(()) => Ok(client),
            Err(refused) => {
                // Why it was refused is the answer, however it ends.
                let _ = client.close().await;
                Err(refused)
            }
        }
    }

    /// A running weir, without a token.
    #[cfg(test)]
    pub fn at(url: &str) -> Self {
        over_http(url, None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Has what the stream no longer has read from an archive. A server has its own, which it was started with. `is_typed`: asked for by hand.
    async fn read_archive(&self, url: &str, is_typed: bool) -> Result<(), Failure> {
        match self {
            Self::Here { system, .. } => system.read_archive(url).await.map_err(|error| Failure::of(&error)),
            Self::There { .. } if !is_typed => Ok(()),
            Self::There { url: server, .. } => match self.is_archiving().await {
                true => Err(Failure::new(format!(
                    "the weir at {server} reads the archive that it was started with (`weir up --archive`): leave --archive out"
                ))),
                false => Err(self.without_archive()),
            },
        }
    }

    /// Asserts that whoever carries the command out has an archive, where none was named for it.
    pub async fn has_archive(&self) -> Result<(), Failure> {
        match self {
            Self::Here { .. } => Err(Failure::new(
                "there is no archive to read: give --archive URL, the one that `weir up --archive` was told. This command reads it by itself, whoever \
                 else works on the stream",
            )),
            Self::There { .. } if self.is_archiving().await => Ok(()),
            Self::There { .. } => Err(self.without_archive()),
        }
    }

    fn without_archive(&self) -> Failure {
        Failure::new(format!(
            "there is no archive to read: the weir at {} carries this out, and was started without one. End it, and start it with `weir up --archive URL`",
            self.name()
        ))
    }

    /// A server that has an archive says how far that is.
    async fn is_archiving(&self) -> bool {
        let health = self.send(Method::GET, "/health", Bytes::new()).await;
        let health = health.ok().and_then(|(_, health)| serde_json::from_slice::<Value>(&health).ok());
        let checks = health.and_then(|mut health| health["checks"].as_array_mut().map(std::mem::take));
        checks.into_iter().flatten().any(|check| check["name"] == "archive")
    }

    /// Speaks to a system of this process.
    pub fn here(system: System) -> Self {
        let system = Arc::new(system);
        let router = api::router(system.clone(), api::Access::Open);
        Self::Here { system, router }
    }

    /// This process works on a stream and rows that are in no data folder.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Here { system, .. } if !system.is_local())
    }

    /// How batches of files are packed for it: on one machine what costs the least time, on Kinesis what fills the units that are paid. A server says
    /// which it is; one that does not answer says so to whatever is asked next.
    pub async fn profile(&self) -> Profile {
        let pays_units = match self {
            Self::Here { .. } => self.is_elsewhere(),
            Self::There { .. } => {
                let health = self.send(Method::GET, "/health", Bytes::new()).await;
                let health = health.ok().and_then(|(_, health)| serde_json::from_slice::<Value>(&health).ok());
                health.is_some_and(|health| health["paysUnits"] == true)
            }
        };
        match pays_units {
            true => Profile::KINESIS,
            false => Profile { codec: Codec::None, target: Target::Lines(BATCH_BYTES) },
        }
    }

    /// Names the system for the list of what was read into it: a file goes once into each.
    pub fn name(&self) -> &str {
        match self {
            Self::Here { .. } => "local",
            Self::There { url, .. } => url,
        }
    }

    /// Sends a request; the answer's status and body.
    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
        match self {
            Self::Here { router, .. } => {
                let request = Request::builder().method(method).uri(path).body(Body::from(body));
                let request = request.map_err(|error| Failure::new(format!("{path}: {error}")))?;
                let service = router.clone();
                let answer = tower_service::Service::call(&mut service.into_service::<Body>(), request).await;
                let Ok(answer) = answer;
                let status = answer.status();
                Ok((status, read(answer.into_body(), path).await?))
            }
            Self::There { url, token, pool } => {
                let uri: Uri =
                    format!("{url}{path}").parse().map_err(|error| Failure::new(format!("{url}{path}: {error}")))?;
                let mut request = Request::builder().method(method).uri(uri);
                if let Some(Token(token)) = token {
                    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                        Failure::new("the token (--token or WEIR_TOKEN) holds a character that no token has")
                    })?;
                    bearer.set_sensitive(true);
                    request = request.header(header::AUTHORIZATION, bearer);
                }
                let request = request.body(Full::new(body)).map_err(|error| Failure::new(format!("{url}: {error}")))?;
                let answer = pool.request(request).await.map_err(|error| {
                    Failure::new(format!("{url} does not answer ({}): is `weir up` running there?", root(&error)))
                })?;
                let status = answer.status();
                Ok((status, read(answer.into_body(), path).await?))
            }
        }
    }

    /// Sends a request whose answer is JSON; a refusal becomes a failure with the answer's own message.
    pub async fn json(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
        self.answer(method, path, body).await?.map_err(|refused| refused.why)
    }

    /// As `json`, but a refusal stands apart from an answer that could not be had.
    pub async fn answer(&self, method: Method, path: &str, body: Bytes) -> Result<Result<Value, Refused>, Failure> {
        let (status, answer) = self.send(method, path, body).await?;
        let value = serde_json::from_slice::<Value>(&answer).ok();
        if let (true, Some(value)) = (status.is_success(), &value) {
            return Ok(Ok(value.clone()));
        }
        let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
        let why = Failure::new(match message {
            Some(message) => message.to_owned(),
            None if status == StatusCode::UNAUTHORIZED => {
                "the credential was refused: set WEIR_TOKEN to a token that this weir knows".to_owned()
            }
            None => self.no_weir(path, status, &answer),
        });
        let by_content = matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE);
        Ok(Err(Refused { by_content, is_nothing: status == StatusCode::NOT_FOUND, why }))
    }

    /// What somebody else's server says is not shown whole: it may be a page.
    fn no_weir(&self, path: &str, status: StatusCode, answer: &[u8]) -> String {
        let text = String::from_utf8_lossy(answer);
        let words: String =
            text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(FOREIGN_CHARS_MAX).collect();
        let route = path.split('?').next().unwrap_or_default();
        format!(
            "{} does not answer {route} as a weir does, but with {status}: `{words}`. Is the URL that of a `weir up`, and nothing else in between?",
            self.name()
        )
    }

    /// Whose credential the client shows: the tenant of everything that it sends and sees.
    pub async fn tenant(&self) -> Result<String, Failure> {
        let (_, health) = self.send(Method::GET, "/health", Bytes::new()).await?;
        let health: Value = serde_json::from_slice(&health).unwrap_or(Value::Null);
        if let Some(tenant) = health["tenant"].as_str() {
            return Ok(tenant.to_owned());
        }
        // Where no credential is needed for `/health`, a route that needs one says what is wrong.
        self.json(Method::GET, "/balance", Bytes::new()).await?;
        Err(Failure::new(format!("{} does not say whose credential it is: is it a weir of this version?", self.name())))
    }

    /// Folds what is left and closes a system of this process.
    pub async fn close(self) -> Result<(), Failure> {
        if let Self::Here { system, router } = self {
            drop(router);
            system.losses().iter().for_each(|loss| eprintln!("lost: {loss}"));
            let stopped = system.why_stopped();
            let stopped = match Arc::try_unwrap(system) {
                Ok(system) => up::closed(system).await,
                Err(_) => stopped,
            };
            if let Some(why) = stopped {
                return Err(Failure::new(why));
            }
        }
        Ok(())
    }
}

/// The innermost cause: hyper's outer ones say only that something failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn read<B>(body: B, path: &str) -> Result<Bytes, Failure>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::new(format!("{path}: the answer broke off: {error}")))
}

/// The `weir up` that has the folder open, if it answers.
async fn running(folder: &Path, token: Option<&Token>) -> Option<Client> {
    let (url, instance) = weir::serving_as(folder)?;
    let client = over_http(&url, token).ok()?;
    let health = client.send(Method::GET, "/health", Bytes::new());
    let (status, health) = tokio::time::timeout(PROBE, health).await.ok()?.ok()?;
    let health: Value = serde_json::from_slice(&health).unwrap_or(Value::Null);
    let is_it = health["instance"] == instance.as_str();
    (is_it && (status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE)).then_some(client)
}

/// Text as part of a query string.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
