//! Paths as the gateway hands them over.
use super::*;

#[test]
fn what_the_gateway_puts_before_a_path_is_taken_away_and_nothing_else() {
    for (path, before, rest) in [
        ("/prod/metrics", "/prod", "/metrics"),
        ("/prod", "/prod", "/"),
        ("/prod/", "/prod", "/"),
        ("/production/metrics", "/prod", "/production/metrics"),
        ("/metrics", "/prod", "/metrics"),
        ("/metrics", "", "/metrics"),
        ("/", "", "/"),
        ("/alarms/prod/x", "/prod", "/alarms/prod/x"),
    ] {
        assert_eq!(within(path, before), rest, "{path} {before}");
    }
}
