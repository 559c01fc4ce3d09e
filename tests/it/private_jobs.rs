//! The jobs on the private listener: who may run which, once, and what programs and people are told.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use afterword::testimonials::export::EXPORT_FORMATS;
use afterword::web::private::{OPENAPI, ROUTES, Who};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scraper::{Html, Selector};
use serde_json::{Value, json};

use crate::private::{Answer, CONFIG, House, basic, bearer, send, token};
use crate::support::say;

/// A job for all shops, and one for each.
pub const JOBS: &str = r#"
[jobs.metrics]
kind = "compute_metrics"
[jobs.maison]
kind = "compute_metrics"
schedule = "0 3 * * *"
timezone = "Europe/Paris"
enabled = false
[jobs.maison.params]
shop = "maison"
[jobs.atelier]
kind = "compute_metrics"
[jobs.atelier.params]
shop = "atelier"
"#;

async fn house() -> House {
    House::with(&format!("{CONFIG}{JOBS}")).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
        panic!("{error}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
    })
}

impl House {
    /// As `team`, with a key.
    fn post(&self, job: &str, key: &str) -> Answer {
        let headers = [("authorization", bearer("team")), ("idempotency-key", key.to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        self.ask("POST", &format!("/jobs/{job}/run"), &headers)
    }

    /// How a run has ended.
    fn ended(&self, place: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let run = json_of(&self.get("team", place));
            if run["state"] != "running" {
                return run;
            }
            assert!(Instant::now() < until, "it goes on: {run}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// While the value lives, whoever counts waits.
    async fn held_up(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        // By a statement that takes its time, and not by a lock, for which nobody waits longer than some seconds.
        let until_let_go = "create or replace function is_held() returns trigger language plpgsql as $$
            begin
                while not pg_try_advisory_xact_lock(hashtext('held')) loop
                    perform pg_sleep(0.02);
                end loop;
                return new;
            end $$;
            create or replace trigger is_held before insert on metric_freeze for each row execute function is_held()";
        sqlx::raw_sql(until_let_go).execute(self.pool()).await.unwrap();
        let mut held = self.pool().begin().await.unwrap();
        sqlx::raw_sql("select pg_advisory_xact_lock(hashtext('held'))").execute(&mut *held).await.unwrap();
        held
    }
}

/// Whoever adds a way in says there what it answers.
#[test]
fn the_openapi_file_says_what_there_is() {
    let file: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(file["openapi"], "3.1.0");
    let mut said = BTreeSet::new();
    for (path, operations) in file["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let right = operation["x-right"].as_str().unwrap();
            said.insert(format!("{} {path} {right}", method.to_uppercase()));
            let is_open = operation["security"] == json!([]);
            assert_eq!(is_open, right == "anybody", "{path}");
            let answers = operation["responses"].as_object().unwrap();
            assert_eq!(answers.contains_key("401"), !is_open, "{path}");
            assert_eq!(answers.contains_key("403"), !is_open && right != "known", "{path}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named = parameters
                .filter(|one| one["in"] == "path")
                .map(|one| format!("{{{}}}", one["name"].as_str().unwrap()));
            assert_eq!(
                named.collect::<String>(),
                path.split('/').filter(|part| part.starts_with('{')).collect::<String>()
            );
        }
    }
    let ways = ROUTES.iter().map(|route| {
        let right = match route.who {
            Who::Anybody => "anybody".to_owned(),
            Who::Known => "known".to_owned(),
            Who::May(right) => format!("{right:?}").to_lowercase(),
        };
        format!("{} {} {right}", route.method, route.path)
    });
    assert_eq!(said, ways.collect());
    // What is referred to is there.
    for reference in OPENAPI.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(file.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_request_is_recorded_with_who_asked_and_begins_once_for_each_key() {
    let house = house().await;
    let answer = house.post("metrics", "\"first\"");
    assert_eq!(answer.status, 202);
    let begun = json_of(&answer);
    let place = answer.header("location").unwrap().to_owned();
    assert_eq!((&begun["run"], &begun["problem"]), (&json!(place), &Value::Null));
    let run = house.ended(&place);
    assert_eq!(
        (&run["state"], &run["trigger"], &run["asked_by"]),
        (&json!("done"), &json!("request"), &json!("team"))
    );
    assert_eq!((&run["job"], &run["job_run_id"]), (&json!("metrics"), &begun["job_run_id"]));
    assert!(run["report"]["text"].as_str().unwrap().contains("counted"), "{run}");

    // The same request, with and without quotes, even when the job may not run any more.
    for key in ["first", "\"first\""] {
        let again = house.post("metrics", key);
        assert_eq!((again.status, again.header("location")), (202, Some(place.as_str())));
    }
    house.program.run(&["jobs", "pause", "metrics", "--reason", "the books are closed"]).expect(0);
    assert_eq!(house.post("metrics", "first").header("location"), Some(place.as_str()));
    let paused = house.post("metrics", "second");
    assert_eq!((paused.status, paused.header("location")), (409, None));
    assert_eq!(json_of(&paused)["problem"], "metrics is paused: the books are closed");
    house.program.run(&["jobs", "resume", "metrics"]).expect(0);
    // The key of another job, or of another access, is another key.
    let by_team = house.post("atelier", "first");
    assert_eq!(house.ended(by_team.header("location").unwrap())["asked_by"], "team");
    let headers = [("authorization", bearer("atelier")), ("idempotency-key", "first".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let by_atelier = house.ask("POST", "/jobs/atelier/run", &headers);
    assert_eq!(house.ended(by_atelier.header("location").unwrap())["asked_by"], "atelier");
    let others = [by_team, by_atelier];
    let places: BTreeSet<&str> =
        others.iter().chain([&answer]).filter_map(|answer| answer.header("location")).collect();
    assert_eq!(places.len(), 3);

    // The command shows the same.
    let number = begun["job_run_id"].to_string();
    let shown = house.program.run(&["jobs", "show", &number, "--json"]).expect(0).json();
    assert_eq!(shown, run);
    let shown = house.program.run(&["jobs", "show", &number]).expect(0).stdout;
    assert!(shown.contains("request: team") && shown.contains("\"shops\""), "{shown}");
    let none = house.program.run(&["jobs", "show", "999"]).expect(2);
    assert!(none.stderr.contains("there is no run 999"), "{none:?}");
    let history = house.program.run(&["jobs", "history", "metrics"]).expect(0).stdout;
    assert!(history.contains(&number) && history.contains("request: team"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_one_runs_and_the_other_is_told_which() {
    let house = house().await;
    let held = house.held_up().await;
    let at_once = |keys: [&str; 8]| -> Vec<Answer> {
        std::thread::scope(|scope| {
            let asking: Vec<_> =
                keys.map(|key| scope.spawn(|| house.post("metrics", key))).into_iter().collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    };
    let answers = at_once(["a", "b", "c", "d", "e", "f", "g", "h"]);
    let (begun, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert_eq!((begun.len(), refused.len()), (1, 7), "{answers:?}");
    let place = begun[0].header("location").unwrap();
    for refused in refused {
        assert_eq!((refused.status, refused.header("location")), (409, Some(place)));
        assert_eq!(json_of(refused)["problem"], "metrics is running already");
    }
    // Neither does a person at the machine get in, unless they wait.
    let number = place.rsplit('/').next().unwrap();
    let refused = house.program.run(&["run", "metrics"]).expect(4);
    assert!(refused.stderr.contains(&format!("afterword jobs show {number}")), "{refused:?}");
    assert_eq!(house.program.run(&["run", "metrics", "--wait", "--dry-run"]).code, 2);
    let waiting = house.program.spawn(&["run", "metrics", "--wait"]);
    let impatient = house.program.spawn(&["run", "metrics", "--wait"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    kill(Pid::from_raw(i32::try_from(impatient.id()).unwrap()), Signal::SIGINT).unwrap();
    let impatient = impatient.wait_with_output().unwrap();
    assert_eq!(impatient.status.code(), Some(4), "{impatient:?}");
    assert_eq!(json_of(&house.get("team", place))["state"], "running");
    held.rollback().await.unwrap();
    assert_eq!(house.ended(place)["state"], "done");
    let waited = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert_eq!(waited.status.code(), Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "no bar where nobody looks: {said}");
    assert!(lines[0].contains("waiting for it to end") && lines[1].starts_with("metrics: done: "), "{said}");

    // The same request eight times at once is one run.
    let held = house.held_up().await;
    let answers = at_once(["same"; 8]);
    let places: BTreeSet<_> =
        answers.iter().map(|answer| (answer.status, answer.header("location"))).collect();
    assert_eq!(places.len(), 1, "{places:?}");
    assert_eq!(places.first().unwrap().0, 202);
    held.rollback().await.unwrap();
    house.ended(places.first().unwrap().1.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_some_shops_sees_and_runs_the_jobs_of_these_alone() {
    let house = house().await;
    let names = |answer: &Answer| -> Vec<String> {
        json_of(answer)
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["job"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&house.get("team", "/jobs")), ["atelier", "maison", "metrics"]);
    // `metrics` works for the other shop as well.
    assert_eq!(names(&house.get("atelier", "/jobs")), ["atelier"]);
    assert_eq!(house.get("team", "/jobs/nothing").status, 404);
    let place = house.post("metrics", "m").header("location").unwrap().to_owned();
    house.ended(&place);
    for path in ["/jobs/metrics", "/jobs/maison", "/jobs/nothing", place.as_str(), "/runs/999", "/runs/x"] {
        let refused = house.get("atelier", path);
        assert_eq!(
            (refused.status, refused.body),
            (403, house.get("atelier", "/jobs/nothing").body),
            "{path}"
        );
    }
    for path in ["/runs/999", "/runs/x", "/runs/99999999999999999999"] {
        assert_eq!(house.get("team", path).status, 404, "{path}");
    }
    let post = |path: &str| house.ask("POST", path, &[("authorization", &bearer("atelier"))]).status;
    assert_eq!(["/jobs/metrics/run", "/jobs/maison/run", "/jobs/nothing/run"].map(post), [403; 3]);
    assert_eq!(post("/jobs/atelier/run"), 202);
    let one = json_of(&house.get("team", "/jobs/maison"));
    assert_eq!(
        (&one["schedule"], &one["enabled"], &one["runs"]),
        (&json!("0 3 * * *"), &json!(false), &json!([]))
    );
    assert_eq!(json_of(&house.get("team", "/jobs/metrics"))["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_strangers_page_runs_nothing_and_the_button_runs_it_once() {
    let house = house().await;
    let as_team = basic("team", &token("team"));
    let form = "application/x-www-form-urlencoded";
    let press = |shown: &str, body: &str| {
        let headers = [("authorization", shown), ("content-type", form), ("sec-fetch-site", "cross-site")];
        send(&house.private, "POST", "/jobs/metrics/run", &headers, body)
    };
    let page = |shown: &str| {
        let headers = [("authorization", shown), ("accept", "text/html,application/xhtml+xml;q=0.9")];
        let answer = house.ask("GET", "/jobs?locale=en", &headers);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
        String::from_utf8(answer.body).unwrap()
    };
    let fields = |page: &str| {
        let page = Html::parse_document(page);
        let of = |name: &str| {
            let selector =
                Selector::parse(&format!("form[action='jobs/metrics/run'] input[name={name}]")).unwrap();
            page.select(&selector).next().unwrap().attr("value").unwrap().to_owned()
        };
        (of("proof"), of("key"))
    };
    let (proof, key) = fields(&page(&as_team));
    // What a page elsewhere can send with what the browser adds by itself.
    let other = House::with(&format!("{CONFIG}{JOBS}")).await;
    let foreign = {
        let headers = [("authorization", as_team.as_str()), ("accept", "text/html")];
        fields(&String::from_utf8(other.ask("GET", "/jobs", &headers).body).unwrap()).0
    };
    for body in
        ["", "proof=&key=k", &format!("proof=guessed&key={key}"), &format!("proof={foreign}&key={key}")]
    {
        let refused = press(&as_team, body);
        assert_eq!(refused.status, 400, "{body}");
        assert!(!String::from_utf8_lossy(&refused.body).contains(&proof));
    }
    let text = send(
        &house.private,
        "POST",
        "/jobs/metrics/run",
        &[("authorization", &as_team), ("content-type", "text/plain")],
        "x",
    );
    assert_eq!(text.status, 400);
    let long = "x".repeat(10_000);
    assert_eq!(press(&as_team, &long).status, 413);
    assert_eq!(json_of(&house.get("team", "/jobs/metrics"))["runs"], json!([]));

    // The button, pressed twice.
    for _ in 0..2 {
        let answer = press(&as_team, &format!("proof={proof}&key={key}"));
        assert_eq!((answer.status, answer.header("location")), (303, Some("../../jobs")));
    }
    let runs = json_of(&house.get("team", "/jobs/metrics"))["runs"].clone();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    house.ended(&format!("/runs/{}", runs[0]["job_run_id"]));
    let after = page(&as_team);
    assert!(after.contains("done, 20") && after.contains("by hand only"), "{after}");
    assert_ne!(fields(&after).1, key, "another page begins another run");
    // A program with a name and a token says so by a key; a Bearer's need not.
    let keyed =
        house.ask("POST", "/jobs/maison/run", &[("authorization", &as_team), ("idempotency-key", "k")]);
    assert_eq!(keyed.status, 202);
    assert_eq!(house.ask("POST", "/jobs/maison/run", &[("authorization", &as_team)]).status, 400);
    assert_eq!(house.post("atelier", "not a key").status, 400);
}

/// What a fuzzer makes of the OpenAPI file: no answer is an error of ours, and each is what the file says.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_nothing_fails() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/schemathesis.sh");
    let found = Command::new(script).output().unwrap();
    if !found.status.success() {
        return say("SKIPPED private_jobs::whatever_is_asked_nothing_fails: there is no schemathesis here");
    }
    let program = String::from_utf8(found.stdout).unwrap();
    let house = house().await;
    crate::private::approved(house.pool(), "maison", 20, 40).await;
    // What there is in this house, so that not every guess is a miss.
    let mut file: Value = serde_json::from_str(OPENAPI).unwrap();
    let formats: Vec<&str> = EXPORT_FORMATS.iter().map(|format| format.name).chain(["none"]).collect();
    for (_, operations) in file["paths"].as_object_mut().unwrap() {
        for (_, operation) in operations.as_object_mut().unwrap() {
            for parameter in
                operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten()
            {
                let known = match parameter["name"].as_str().unwrap() {
                    "job" => json!(["metrics", "maison", "atelier", "nothing"]),
                    "shop" => json!(["maison", "atelier", "nowhere"]),
                    "format" => json!(formats.clone()),
                    _ => continue,
                };
                parameter["schema"]["enum"] = known;
            }
        }
    }
    let file = house.program.write("openapi.json", file.to_string());
    // So many of each way in, most of which have that many; and at least so many in all.
    let (n_examples, n_least) =
        if std::env::var_os("AFTERWORD_SOAK").is_some() { (700, 5_000) } else { (20, 200) };
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let ran = Command::new(program.trim())
        .arg("run")
        .arg(file)
        .args([
            "--url",
            &format!("http://{}", house.private),
            "--header",
            &format!("Authorization: {}", bearer("team")),
        ])
        .args(["--checks", checks, "--phases", "coverage,fuzzing", "--mode", "all"])
        .args([
            "--max-examples",
            &n_examples.to_string(),
            "--seed",
            "20260301",
            "--workers",
            "1",
            "--no-color",
        ])
        .env("HYPOTHESIS_STORAGE_DIRECTORY", house.program.path("hypothesis"))
        .current_dir(house.program.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    let n_cases = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u32>().ok());
    assert!(n_cases.is_some_and(|n| n >= n_least), "{said}");
    // And some of them have done something.
    assert!(house.count("job_run where trigger = 'request' and state = 'done'").await > 2);
    say(&format!("schemathesis: {} cases", n_cases.unwrap_or_default()));
}
