//! Inputs that lie in buckets: says what reading them will cost before any is read, and asks where that is much. Reads none.
//!
//! Who is not at a terminal cannot be asked, and is refused: a script that was not told how large a bucket has become would else pay for it unseen.

#[cfg(feature = "aws")]
use std::sync::atomic::Ordering::Relaxed;
use std::{path::PathBuf, sync::Arc};

use processor::ingest::{Progress, ReaderList, object::Announced};
use tokio::sync::mpsc;

use super::{Failure, ingest::Args};

/// Somebody has to agree before it spends more dollars than this.
#[cfg(feature = "aws")]
pub const ASKED_USD_MIN: f64 = 1.0;

/// What is to be read.
#[derive(Default)]
pub struct Prepared {
    /// Objects as they are opened.
    pub objects: Option<mpsc::Receiver<Announced>>,
    /// Names that mean nothing, each with the cause and the next step.
    pub failed: Vec<(String, String)>,
    /// Somebody said no.
    pub is_declined: bool,
}

/// Takes names of buckets out of the paths. A path is one only if it begins so: `./s3:` names a folder.
pub fn split(paths: &[PathBuf]) -> (Vec<String>, Vec<PathBuf>) {
    let url = |path: &PathBuf| path.to_str().filter(|text| text.starts_with("s3://")).map(str::to_owned);
    (paths.iter().filter_map(url).collect(), paths.iter().filter(|path| url(path).is_none()).cloned().collect())
}

/// Refuses what makes no sense for an object.
pub fn check(names: &[String], options: &Args) -> Result<(), Failure> {
    match (names.first(), &options.as_name, options.again) {
        (Some(name), Some(_), _) => Err(Failure::new(format!(
            "--as is for input without an identity: {name} is known by its bucket, its key and its version or etag. Leave --as out"
        ))),
        (Some(name), _, true) => Err(Failure::new(format!(
            "--again cannot count {name} again: the stream knows it by its bucket, its key and its version or etag. To count it again, read it into \
             another --data folder, or another --stream and --store"
        ))),
        _ => Ok(()),
    }
}

/// As below, in a program that cannot.
#[cfg(not(feature = "aws"))]
pub async fn prepare(
    names: &[String],
    _: &Arc<ReaderList>,
    _: &Progress,
    _: bool,
    _: &Args,
) -> Result<Prepared, Failure> {
    let Some(name) = names.first() else { return Ok(Prepared::default()) };
    Err(Failure::new(format!(
        "{name} is in a bucket, and this program was built without AWS: build it with `cargo build --release --features aws`, then run the same again"
    )))
}

/// Looks at what the names mean, says what it will cost, and begins to open it. `is_paid`: stream and rows are on AWS.
#[cfg(feature = "aws")]
pub async fn prepare(
    names: &[String],
    list: &Arc<ReaderList>,
    progress: &Progress,
    is_paid: bool,
    options: &Args,
) -> Result<Prepared, Failure> {
    use processor::{
        ingest::s3,
        prices::{Estimate, Reading, dollars},
    };
    let mut prepared = Prepared::default();
    if names.is_empty() {
        return Ok(prepared);
    }
    let targets = find(names, options.requester_pays, &mut prepared).await?;
    if targets.is_empty() {
        return Ok(prepared);
    }
    let survey = match s3::Survey::of(&targets, list).await {
        Ok(survey) => survey,
        Err(error) => return Err(Failure::of(&error)),
    };
    let s3::Survey { objects, bytes, packed_bytes, gets, lists, known, known_bytes, .. } = survey;
    eprintln!("{}", sentence(&survey));
    if objects > 0 {
        let estimate = Estimate::of(&Reading { objects, bytes, packed_bytes, gets, lists: 2 * lists }, is_paid);
        eprintln!("estimate: {estimate}");
        if estimate.transfer_usd >= 0.01 {
            let transfer = dollars(estimate.transfer_usd);
            eprintln!(
                "up to {transfer} more for the transfer, if this machine is outside AWS or the bucket in another region"
            );
        }
        let asks = !options.yes && estimate.usd_max() > ASKED_USD_MIN;
        if asks && !can_be_asked() {
            return Err(Failure::new(format!(
                "this may cost more than {} and nobody can be asked here: nothing was read. Give --yes to read it, or name less",
                dollars(ASKED_USD_MIN)
            )));
        }
        if asks && !agrees() {
            prepared.is_declined = true;
            return Ok(prepared);
        }
    }
    progress.files_total.fetch_add(objects + known, Relaxed);
    progress.disk_bytes_total.fetch_add(bytes + known_bytes, Relaxed);
    prepared.objects = Some(s3::open_ahead(s3::listed(targets, list.clone())));
    Ok(prepared)
}

/// What the names mean, and which mean nothing.
#[cfg(feature = "aws")]
async fn find(
    names: &[String],
    requester_pays: bool,
    prepared: &mut Prepared,
) -> Result<Vec<processor::ingest::s3::Target>, Failure> {
    use processor::ingest::s3;
    let reached = weir::aws::Buckets::open().await.map_err(|error| Failure::of(&error))?;
    let mut buckets = s3::Buckets::default();
    let mut targets = vec![];
    let of_name = |name: &str| {
        let bucket = reached.named(name);
        if requester_pays { bucket.paid_by_who_asks() } else { bucket }
    };
    for name in names {
        let found = match s3::spelling(name) {
            Ok((bucket, key)) => s3::Target::find(buckets.named(bucket, of_name), key).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(target) => targets.push(target),
            Err(error) => {
                let why = format!("{} (asked in {})", weir::with_causes(&error), reached.place());
                prepared.failed.push((name.clone(), why));
            }
        }
    }
    Ok(targets)
}

#[cfg(feature = "aws")]
fn sentence(survey: &processor::ingest::s3::Survey) -> String {
    use indicatif::{HumanBytes, HumanCount};
    let number =
        |count: u64, one: &str, more: &str| format!("{} {}", HumanCount(count), if count == 1 { one } else { more });
    let mut text = format!("{} of {}", number(survey.objects, "object", "objects"), HumanBytes(survey.bytes));
    if survey.packed_bytes > 0 {
        text += &format!(
            ", {} of it packed: what is in that is not known yet, so what follows is a range",
            HumanBytes(survey.packed_bytes)
        );
    }
    if survey.known > 0 {
        text += &format!("; {} read before", number(survey.known, "was", "were"));
    }
    if survey.empty > 0 {
        text += &format!("; {} empty", number(survey.empty, "is", "are"));
    }
    text
}

/// Somebody sits at a terminal.
#[cfg(feature = "aws")]
fn can_be_asked() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks.
#[cfg(feature = "aws")]
fn agrees() -> bool {
    use std::io::Write;
    eprint!("go on? [y/N] ");
    // Where nothing can be shown, nothing can be answered.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let is_read = std::io::stdin().read_line(&mut answer).is_ok();
    is_read && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_so_is_a_bucket() {
        let paths: Vec<PathBuf> = ["s3://a/b", "./s3://a", "s3:/a", "a/s3://b", "-"].map(Into::into).into();
        let (names, rest) = split(&paths);
        assert_eq!(names, ["s3://a/b"]);
        assert_eq!(rest.len(), 4);
    }
}
