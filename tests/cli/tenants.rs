//! Several tenants on one `weir up`: whose a line is says the token, and nobody sees or changes what is another's.

use crate::{
    logs::{lines, sum},
    program::{Folder, Said, Server, say, weir},
};

const ACME: &str = "acme-0123456789abcdef";
const OTHER: &str = "other-0123456789abcdef";
const LOCAL: &str = "local-0123456789abcdef";

fn with_tokens(folder: &Folder) -> Server {
    let tokens = format!("# ours\nacme {ACME}\nother {OTHER}\nlocal {LOCAL}\n");
    folder.up(["--tokens".into(), folder.file("tokens", tokens).into_os_string()])
}

/// A command as somebody elsewhere runs it, with a token.
fn as_tenant(folder: &Folder, server: &Server, token: &str, arguments: &[&str]) -> Said {
    let mut command = weir(folder.root.path());
    say(command
        .args(arguments)
        .args(["--url", &server.url, "--data"])
        .arg(folder.path("there"))
        .env("WEIR_TOKEN", token))
}

#[test]
fn two_tenants_ingest_the_same_file_and_each_sees_its_own_lines() {
    let folder = Folder::new();
    let server = with_tokens(&folder);
    let log = folder.file("app.log", lines("app", 0..100));
    let log = log.to_str().unwrap();
    let seen = |token: &str| {
        let rows =
            as_tenant(&folder, &server, token, &["metrics", "--metric", "latency", "--json"]).exits(0).json_lines();
        let count: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        (count, rows.iter().map(|row| row["sum"].as_f64().unwrap()).sum::<f64>())
    };
    let said = as_tenant(&folder, &server, ACME, &["ingest", log]).exits(0);
    assert_eq!(said.last_line(), "accepted 100 = folded 100 + skipped 0 + duplicate 0 + dead 0");
    assert_eq!((seen(ACME), seen(OTHER), seen(LOCAL)), ((100, sum(0..100)), (0, 0.0), (0, 0.0)));
    // What one has read is nothing that another has.
    let said = as_tenant(&folder, &server, OTHER, &["ingest", log]).exits(0);
    assert_eq!(said.last_line(), "accepted 100 = folded 100 + skipped 0 + duplicate 0 + dead 0");
    assert_eq!((seen(ACME), seen(OTHER), seen(LOCAL)), ((100, sum(0..100)), (100, sum(0..100)), (0, 0.0)));
    as_tenant(&folder, &server, ACME, &["ingest", log]).exits(0).complains(&["hold nothing new"]);
    // By its folder as well as by its address.
    let on_folder = |token: &str| say(folder.command("ingest").arg(log).env("WEIR_TOKEN", token)).exits(0);
    assert_eq!(on_folder(LOCAL).last_line(), "accepted 100 = folded 100 + skipped 0 + duplicate 0 + dead 0");
    on_folder(LOCAL).complains(&["hold nothing new"]);
    as_tenant(&folder, &server, LOCAL, &["verify"]).exits(0);
    as_tenant(&folder, &server, ACME, &["verify"]).exits(2).complains(&["tenant `local`"]);
    server.stop().exits(0);
}

#[test]
fn an_alarm_is_its_tenants_own() {
    let folder = Folder::new();
    let server = with_tokens(&folder);
    let alarm = r#"{"AlarmName":"secret","ServiceName":"app","MetricName":"errors","Statistic":"Sum","Period":60,
        "EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}"#;
    let alarm = folder.file("alarm.json", alarm);
    as_tenant(&folder, &server, ACME, &["apply", alarm.to_str().unwrap()]).exits(0);
    assert!(as_tenant(&folder, &server, ACME, &["alarms"]).exits(0).out.contains("secret"));
    assert_eq!(as_tenant(&folder, &server, OTHER, &["alarms"]).exits(0).out, "");
    as_tenant(&folder, &server, OTHER, &["alarms", "secret"]).exits(2).complains(&["there is no alarm `secret`"]);
    server.stop().exits(0);
}

#[test]
fn without_a_token_every_command_names_where_one_is_given() {
    let folder = Folder::new();
    let server = with_tokens(&folder);
    let log = folder.file("app.log", lines("app", 0..1));
    let alarm = folder.file("alarm.json", "{}");
    for arguments in [
        &["ingest", log.to_str().unwrap()][..],
        &["metrics"],
        &["alarms"],
        &["verify"],
        &["apply", alarm.to_str().unwrap()],
    ] {
        for token in ["", "a-token-nobody-knows", "line\nbreak-0123456789"] {
            let said = as_tenant(&folder, &server, token, arguments);
            assert!(matches!(said.code, Some(1 | 2)), "{arguments:?}: {said:?}");
            let said = said.complains(&["--token", "WEIR_TOKEN"]);
            assert!(token.is_empty() || !said.err.contains(token), "a token is never shown: {said:?}");
        }
    }
    let mut command = weir(folder.root.path());
    say(command.args(["metrics", "--url", &server.url, "--token", ACME])).exits(0);
    // The default value of an option stands in its help; this one is a secret.
    let help = say(weir(folder.root.path()).args(["metrics", "--help"]).env("WEIR_TOKEN", ACME)).exits(0);
    assert!(help.out.contains("--token") && !help.out.contains("0123456789"), "{help:?}");
    server.stop().exits(0);
}

#[cfg(unix)]
#[test]
fn a_file_of_tokens_that_others_can_read_is_warned_about_and_no_token_is_shown() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let tokens = folder.file("tokens", format!("acme {ACME}\n"));
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true)] {
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(mode)).unwrap();
        let server = folder.up(["--tokens".into(), tokens.clone().into_os_string()]);
        as_tenant(&folder, &server, ACME, &["metrics"]).exits(0);
        let said = server.stop().exits(0);
        assert_eq!(said.err.contains("chmod 600"), warned, "{mode:o}: {said:?}");
        assert!(!format!("{said:?}").contains("0123"), "{said:?}");
    }
}

#[test]
fn a_file_of_tokens_that_cannot_be_used_is_refused_by_the_number_of_its_line() {
    let folder = Folder::new();
    for (text, why) in [
        (format!("acme {ACME}\nother {ACME}\n"), "lines 1 and 2 have the same token"),
        (format!("acme {ACME}\n{OTHER} other\n"), "line 2: the "),
        ("# none\n".to_owned(), "it holds no token"),
    ] {
        let tokens = folder.file("tokens", text);
        let said = say(folder.command("up").args(["--listen", "127.0.0.1:0", "--tokens"]).arg(tokens)).exits(2);
        let said = said.complains(&["the file of tokens", why]);
        assert!(!said.err.contains("0123"), "{said:?}");
    }
}
