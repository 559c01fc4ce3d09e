//! Prometheus, as it is installed, with the rules and the expressions of `packaging/monitoring`: they are sound, each rule fires when it
//! should, and what a running `serve` says is taken and judged.
//!
//! `scripts/prometheus.sh` finds or unpacks it; `make test` calls it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use afterword::types::Clock;
use chrono::TimeDelta;
use serde_json::Value;

use crate::support::program::{Program, Serving, ran, shipped};
use crate::support::{data_dir, say, test_name};

const TOKEN: &str = "the-token-of-whoever-watches-here";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rules() -> String {
    std::fs::read_to_string(root().join("packaging/monitoring/alert-rules.yml")).unwrap()
}

/// One of its programs; `None`, with a line that cannot be overlooked, where there is none.
fn program(name: &str) -> Option<PathBuf> {
    let found = Command::new(root().join("scripts/prometheus.sh")).output().unwrap();
    if !found.status.success() {
        say(&format!("SKIPPED {}: there is no {name}; see scripts/prometheus.sh", test_name()));
        return None;
    }
    Some(Path::new(String::from_utf8(found.stdout).unwrap().trim()).join(name))
}

#[test]
fn every_rule_fires_when_it_should_and_else_stays_quiet() {
    let shown = std::fs::read_to_string(root().join("tests/it/data/monitoring/rules.yml")).unwrap();
    let names: Vec<String> =
        rules().lines().filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())).collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(shown.contains(&format!("alertname: {name}\n        exp_alerts:\n")), "{name} never fires");
        assert!(shown.contains(&format!("alertname: {name}, exp_alerts: [] }}")), "{name} is never quiet");
    }
    let Some(promtool) = program("promtool") else { return };
    let try_them =
        |args: &[&str]| ran(Command::new(&promtool).args(args).current_dir(root()).output().unwrap());
    try_them(&["check", "rules", "packaging/monitoring/alert-rules.yml"]).expect(0);
    try_them(&["test", "rules", "tests/it/data/monitoring/rules.yml"]).expect(0);
}

/// A Prometheus that asks every second.
struct Prometheus {
    api: String,
    _running: Serving,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// Of a private listener, with the shipped rules, none of which waits before it fires.
    fn start(program: &Path, target: &str) -> Self {
        let dir = data_dir();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let at_once: Vec<String> =
            rules().lines().filter(|line| !line.trim().starts_with("for: ")).map(str::to_owned).collect();
        write("rules.yml", at_once.join("\n"));
        write("token", TOKEN.to_owned());
        write(
            "prometheus.yml",
            format!(
                "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\nscrape_configs:\n  \
                 - job_name: afterword\n    authorization: {{ credentials_file: token }}\n    \
                 static_configs: [{{ targets: [{target:?}] }}]\n"
            ),
        );
        let address = free();
        let mut command = Command::new(program);
        command
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=kept"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path());
        let running = Serving::of(&mut command, dir.path());
        let prometheus = Self { api: format!("http://{address}/api/v1"), _running: running, _dir: dir };
        prometheus.until("it is ready", || prometheus.get("targets", &[]).is_some());
        prometheus
    }

    /// What a part of its API answers, where it does.
    fn get(&self, what: &str, query: &[(&str, &str)]) -> Option<Value> {
        let request = ureq::get(format!("{}/{what}", self.api)).query_pairs(query.iter().copied());
        let answer: Value =
            serde_json::from_str(&request.call().ok()?.body_mut().read_to_string().ok()?).unwrap();
        Some(answer["data"].clone())
    }

    /// How many series an expression gives now.
    fn n_series(&self, expression: &str) -> usize {
        let answer = self.get("query", &[("query", expression)]);
        answer.unwrap_or_else(|| panic!("{expression} is refused"))["result"].as_array().unwrap().len()
    }

    /// What fires now, and of what.
    fn alerts(&self) -> BTreeSet<String> {
        let alerts = self.get("alerts", &[]).unwrap()["alerts"].clone();
        let named = |alert: &Value| {
            let labels = &alert["labels"];
            let about = ["job_name", "shop"].into_iter().find_map(|label| labels[label].as_str());
            format!("{} {}", labels["alertname"].as_str().unwrap(), about.unwrap_or("-"))
        };
        alerts.as_array().unwrap().iter().map(named).collect()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{what}: never, but {:?} and {:?}",
                self.get("alerts", &[]),
                self.get("targets", &[])
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

/// A port that is free at this moment.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_what_serve_says_and_raises_what_is_wrong() {
    let Some(prometheus) = program("prometheus") else { return };
    let (public, private) = (free(), free());
    let listen = format!("listen = {public:?}\nprivate_listen = {private:?}");
    let text = shipped().replace("listen = \"127.0.0.1:8080\"", &listen)
        + &format!("\n[[access]]\nname = \"watch\"\ntoken = {TOKEN:?}\nallow = [\"metrics\"]\n");
    let house = Program::new(&text).await;
    // Half of a file cannot be taken, a mail leaves, and the figures are counted.
    let ordered = (Clock::System.now() - TimeDelta::days(12)).to_rfc3339();
    house.write(
        "orders.csv",
        format!(
            "order_id,email,ordered_at,fulfilled_at,status\n\
             A-1,claire@customer.example,{ordered},{ordered},fulfilled\nA-2,lea@customer.example,never,,\n"
        ),
    );
    house.run(&["import", "orders", "orders.csv", "--shop", "maison"]).expect(3);
    house.run(&["run", "send-invitations"]).expect(0);
    house.run(&["run", "nightly-metrics"]).expect(0);

    let serving = house.serve("ready");
    let prometheus = Prometheus::start(&prometheus, &private);
    prometheus.until("it has been asked", || prometheus.n_series("afterword_build_info") == 1);
    // A job that fails, and one that somebody stops.
    std::fs::create_dir_all(house.path("data/inbox")).unwrap();
    house.write("data/inbox/ratings", "a file where a folder should be");
    house.run(&["run", "collect-ratings"]).expect(1);
    house.run(&["jobs", "pause", "purge"]).expect(0);
    let expected =
        ["AfterwordJobFails collect-ratings", "AfterwordJobPaused purge", "AfterwordRowsRejected maison"];
    let expected: BTreeSet<String> = expected.map(str::to_owned).into();
    prometheus.until("what is wrong is raised, and nothing else", || prometheus.alerts() == expected);

    // Every panel of the dashboard asks for what there is, but for what has not happened in this house.
    let may_be_empty = [
        "Last heartbeat",
        "Begun after their time",
        "Answers, last 24 hours",
        "Came back by mail, last 24 hours",
    ];
    let dashboard = std::fs::read_to_string(root().join("packaging/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (title, expression) = (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            let n = prometheus.n_series(expression);
            assert!(n > 0 || may_be_empty.contains(&title), "{title}: nothing gives {expression}");
        }
    }

    assert_eq!(serving.stop(), Some(0));
    let down = BTreeSet::from(["AfterwordDown -".to_owned()]);
    prometheus.until("nobody answers", || down.is_subset(&prometheus.alerts()));
}
