//! Which system a command speaks to: what was typed comes before the environment, and the environment before the user's own folder.

use std::process::Command;

use crate::{
    logs::lines,
    program::{Folder, Said, say, weir},
};

/// A command with variables of the environment, without `--data`.
fn with(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command: Command = weir(folder.root.path());
    say(command.args(arguments).envs(variables.iter().copied()))
}

/// Lines counted in what a command sees.
fn counted(said: &Said) -> f64 {
    said.json_lines().iter().map(|item| item["sum"].as_f64().unwrap()).sum()
}

const COUNTS: [&str; 5] = ["metrics", "--metric", "lines", "-o", "json"];

#[test]
fn the_environment_names_the_folder_and_an_option_names_another() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..3));
    let (file, data) = (file.to_str().unwrap(), folder.data.to_str().unwrap());
    let other = folder.path("other");
    let other = other.to_str().unwrap();

    with(&folder, &["ingest", file], &[("WEIR_DATA", data)]).exits(0);
    assert_eq!(counted(&with(&folder, &COUNTS, &[("WEIR_DATA", data)]).exits(0)), 3.0);
    let elsewhere = [&COUNTS[..], &["--data", other]].concat();
    with(&folder, &elsewhere, &[("WEIR_DATA", data)]).exits(2).complains(&[other]);
    let typed = [&COUNTS[..], &["--data", data]].concat();
    assert_eq!(counted(&with(&folder, &typed, &[("WEIR_DATA", other)]).exits(0)), 3.0);
}

#[test]
fn the_environment_names_a_running_weir_and_data_that_is_typed_comes_first() {
    let (here, there) = (Folder::new(), Folder::new());
    let server = there.up(["--shards", "1"]);
    let file = here.file("app.log", lines("app", 0..3));
    let (file, data) = (file.to_str().unwrap(), here.data.to_str().unwrap());

    with(&here, &["ingest", file, "--data", data], &[("WEIR_URL", &server.url)]).exits(0);
    let there_now = with(&here, &COUNTS, &[("WEIR_URL", &server.url)]).exits(0);
    assert_eq!(counted(&there_now), 0.0, "it was meant for the folder that was typed: {there_now:?}");
    let typed = [&COUNTS[..], &["--data", data]].concat();
    assert_eq!(counted(&with(&here, &typed, &[("WEIR_URL", &server.url)]).exits(0)), 3.0);

    // With a URL, the folder is where the list of what was read is kept.
    with(&here, &["ingest", file, "--url", &server.url, "--data", data], &[]).exits(0);
    let by_environment = [("WEIR_URL", server.url.as_str()), ("WEIR_DATA", data)];
    assert_eq!(counted(&with(&here, &COUNTS, &by_environment).exits(0)), 3.0);
    assert_eq!(counted(&with(&here, &[&COUNTS[..], &["--url", &server.url]].concat(), &[("WEIR_DATA", data)])), 3.0);
    server.stop().exits(0);
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..3));
    let empty = [("WEIR_URL", ""), ("WEIR_DATA", ""), ("WEIR_TOKEN", "")];
    let said = with(&folder, &["ingest", file.to_str().unwrap()], &empty).exits(0);
    let own = folder.path(".local/share/weir");
    said.complains(&["data folder", own.to_str().unwrap()]);
    assert_eq!(counted(&with(&folder, &COUNTS, &empty).exits(0)), 3.0);
    with(&folder, &["metrics", "--url", ""], &[]).exits(2).complains(&["--url"]);
}
