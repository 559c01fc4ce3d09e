//! jobs.toml: what is accepted, and how mistakes are shown.

use std::path::Path;

use afterword::cli::init::SHIPPED;
use afterword::config::Config;

use crate::support::program::{Program, command, ran, shipped};

/// Replaces a piece of the shipped file and expects these lines, in this order.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(SHIPPED.contains(from), "{from:?} is not in the shipped file any more");
    let changed = SHIPPED.replacen(from, to, 1);
    let found =
        Config::parse(Path::new("jobs.toml"), &changed).err().map(|error| error.lines()).unwrap_or_default();
    assert_eq!(found, expected);
}

/// The line of the shipped file that holds this text.
fn line(text: &str) -> usize {
    SHIPPED.lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn the_shipped_file_is_valid() {
    let config =
        Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap_or_else(|error| panic!("{:#?}", error.lines()));
    assert_eq!(config.shops.len(), 1);
    let keys: Vec<&str> = config.surveys.iter().map(|survey| survey.key.as_str()).collect();
    assert_eq!(keys, ["after-service", "nps", "satisfaction"]);
    assert!(config.survey("satisfaction").unwrap().recommendation.is_some());
}

#[test]
fn a_return_path_must_leave_room_for_its_token() {
    let shipped = "# return_path = \"bounces@shop.example\"";
    let check_path = |path: &str, problem: &str| {
        let expected = format!("jobs.toml:{}:15: {path:?}: {problem}", line(shipped));
        check(shipped, &format!("return_path = {path:?}"), &[&expected]);
    };
    let long = "b".repeat(24);
    check_path(
        &format!("{long}@shop.example"),
        "must not have more than 23 characters before the @, because a token is put there",
    );
    let letters = "must have only letters, digits, dots, hyphens and underscores before the @; afterword puts a + and a token there";
    check_path("bounces+shop@shop.example", letters);
    check_path("\"b c\"@shop.example", letters);
    check_path("bounces", "is not a mail address");
    check(shipped, &format!("return_path = \"{}@shop.example\"", &long[1..]), &[]);
}

#[test]
fn where_customers_may_say_it_aloud_and_who_is_unhappy_is_checked() {
    let places = "# review_places = [{ name = \"Le guide des boutiques\", url = \"https://guide.example/maison\" }]   #";
    let at = line("# review_places");
    let place = |name: &str, url: &str| format!("{{ name = {name:?}, url = {url:?} }}");
    let (one, other) = (place("Here", "https://here.example"), place("Here", "https://there.example"));
    check(places, &format!("review_places = [{one}] #"), &[]);
    check(
        places,
        &format!("review_places = [{one}, {other}] #"),
        &[&format!("jobs.toml:{at}:76: the place \"Here\" stands here twice")],
    );
    check(
        places,
        &format!("review_places = [{}] #", place(" ", "here.example")),
        &[
            &format!("jobs.toml:{at}:27: a place needs a name, which customers read as a link"),
            &format!(
                "jobs.toml:{at}:38: \"here.example\" is not a web address (write it as https://reviews.example/your-shop)"
            ),
        ],
    );
    let next = "# unhappy_next = { fr = \"Notre service client vous écrit sous deux jours ouvrés.\"";
    check(
        next,
        "unhappy_next = { fr = \"{{shop.nam}} vous écrit.\"",
        &[&format!(
            "jobs.toml:{}:16: the wording for fr cannot be used: \"shop.nam\" is not known here; a wording can use {{{{shop.name}}}}",
            line("# unhappy_next")
        )],
    );
    let unhappy = "# unhappy = { recommend = [\"no\"] }    #";
    check(
        unhappy,
        "unhappy = { recommend = [\"non\"] } #",
        &[&format!(
            "jobs.toml:{}:11: \"non\" is no answer to \"recommend\" (did you mean `no`?)",
            line("# unhappy = ")
        )],
    );
}

#[tokio::test]
async fn a_shop_whose_language_has_no_templates_is_warned() {
    let program = Program::new(&shipped().replacen("locale = \"fr\"", "locale = \"de\"", 1)).await;
    let report = program.run(&["check", "--json"]).expect(0).json();
    let warnings = report["warnings"].as_array().unwrap();
    let warning = warnings.iter().find_map(|warning| warning.as_str().filter(|text| text.contains("\"de\"")));
    let warning = warning.unwrap_or_else(|| panic!("{report}"));
    for part in ["the shop maison", "in \"en\"", "words.de.toml"] {
        assert!(warning.contains(part), "{warning}");
    }
    program.configure(&shipped());
    let report = program.run(&["check", "--json"]).expect(0).json();
    assert!(!report.to_string().contains("words.fr.toml"), "{report}");
}

#[test]
fn mistakes_are_shown_at_their_line_with_the_nearest_word() {
    check(
        "log_format",
        "log_fromat",
        &[&format!(
            "jobs.toml:{}:1: unknown field `log_fromat`, expected one of `base_url`, `listen`, `private_listen`, `trusted_proxies`, `data_dir`, `secret_file`, \
             `templates_dir`, `log_format`, `shutdown_grace` (did you mean `log_format`?)",
            line("log_format = ")
        )],
    );
    check(
        "schedule = \"*/10 * * * *\"\ntimezone = \"Europe/Paris\"",
        "schedule = \"*/10 * * * *\"\ntimezone = \"Europe/Pariss\"",
        &[&format!(
            "jobs.toml:{}:12: \"Europe/Pariss\" is not a time zone (did you mean `Europe/Paris`?)",
            line("schedule = \"*/10") + 1
        )],
    );
    check(
        "shop = \"maison\"\nformat = \"auto\"",
        "shop = \"maisn\"\nformat = \"auto\"",
        &[&format!(
            "jobs.toml:{}:8: there is no shop \"maisn\"; did you mean `maison`?",
            line("[jobs.import-orders.params]") + 1
        )],
    );
    check(
        "inbox = \"./data/inbox/orders\"",
        "inbx = \"./data/inbox/orders\"",
        &[&format!(
            "jobs.toml:{}:1: unknown field `inbx`, expected one of `shop`, `format`, `inbox` (did you mean `inbox`?)",
            line("inbox = \"./data/inbox/orders\"")
        )],
    );
    check(
        "format = \"auto\"\ninbox",
        "format = 5\ninbox",
        &[&format!(
            "jobs.toml:{}:1: invalid type: integer `5`, expected a string",
            line("inbox = \"./data/inbox/orders\"") - 1
        )],
    );
    check(
        "# url = \"postgres://afterword@db.shop.example/afterword\"",
        "url = \"postgers://afterword:hush@db.shop.example/afterword\"",
        &[&format!(
            "jobs.toml:{}:7: this is not the address of a Postgres database (write it as \
             postgres://user:password@host:5432/database)",
            line("# url = ")
        )],
    );
    check(
        "kind = \"send_invitations\"",
        "kind = \"send_invitation\"",
        &[&format!(
            "jobs.toml:{}:8: there is no job kind \"send_invitation\" (did you mean `send_invitations`?)",
            line("kind = \"send_invitations\"")
        )],
    );
    check(
        "when = { recommend = [\"no\"] }",
        "when = { recommend = [\"non\"] }",
        &[&format!(
            "jobs.toml:{}:8: \"non\" is no answer to \"recommend\" (did you mean `no`?)",
            line("when = { recommend")
        )],
    );
}

#[test]
fn one_reading_tells_all_mistakes() {
    let changed =
        SHIPPED.replacen("delay = \"7d\"", "delay = \"soon\"", 1).replace("sample = 1.0", "sample = 2.0");
    let error = Config::parse(Path::new("jobs.toml"), &changed).unwrap_err();
    let lines = error.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("expected a time such as 7d")));
    assert!(lines.iter().any(|line| line.contains("2 is not a share")));
}

#[test]
fn duplicate_keys_and_questions_are_refused() {
    check(
        "max_connections = 16",
        "max_connections = 16\nmax_connections = 16",
        &[&format!("jobs.toml:{}:1: duplicate key", line("max_connections = 16") + 1)],
    );
    check(
        "key = \"overall\"",
        "key = \"recommend\"",
        &[&format!(
            "jobs.toml:{}:7: the question \"recommend\" stands here twice",
            line("key = \"overall\"")
        )],
    );
    let shop = &SHIPPED[SHIPPED.find("\n[[shop]]").unwrap()..SHIPPED.find("# The order files").unwrap()];
    let error = Config::parse(Path::new("jobs.toml"), &SHIPPED.replacen(shop, &format!("{shop}{shop}"), 1))
        .unwrap_err();
    assert!(error.lines()[0].ends_with("the shop \"maison\" stands here twice"), "{:?}", error.lines());
}

#[test]
fn questions_that_cannot_be_asked_so_are_refused() {
    let consent =
        "[[survey.satisfaction.question]]\nkey = \"publish\"\ntype = \"consent\"\nversion = \"2026-11\"";
    let at = line("key = \"publish\"");
    let second = "[[survey.satisfaction.question]]\nkey = \"share\"\ntype = \"consent\"\nversion = \"1\"\ntext = { en = \"Share\" }\n\n";
    check(
        consent,
        &format!("{second}{consent}"),
        &[&format!(
            "jobs.toml:{}:8: a survey asks for one consent: an answer is published, or it is not (put what is agreed to into one \
             wording, or ask in two surveys)",
            at + 7
        )],
    );
    check(
        consent,
        &format!("{consent}\nrequired = true"),
        &[&format!(
            "jobs.toml:{}:8: a consent cannot be required: it would not be given freely (GDPR, article 7(4)) (leave out `required`)",
            at + 1
        )],
    );
    let topic = "when = { recommend = [\"no\"] }";
    let at = line(topic);
    check(
        topic,
        "when = { comment = [\"no\"] }",
        &[&format!(
            "jobs.toml:{at}:8: \"comment\" is not answered yet when this is asked (move \"comment\" before it)"
        )],
    );
    let changed =
        SHIPPED.replacen("in_mail = true", "#", 1).replacen(topic, &format!("{topic}\nin_mail = true"), 1);
    let lines = Config::parse(Path::new("jobs.toml"), &changed).unwrap_err().lines();
    assert_eq!(
        lines,
        [format!(
            "jobs.toml:{}:11: a mail cannot ask what is only asked after another answer (leave out `when`, or set `in_mail` at the \
             question it depends on)",
            at + 1
        )]
    );
}

#[test]
fn a_bad_schedule_names_the_field() {
    let error =
        Config::parse(Path::new("jobs.toml"), &SHIPPED.replace("0 6 * * 1", "61 6 * * 1")).unwrap_err();
    let lines = error.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with(&format!("jobs.toml:{}:12: ", line("0 6 * * 1"))), "{lines:?}");
    assert!(lines[0].contains("minute"), "{lines:?}");
}

#[test]
fn init_writes_the_commented_file_once() {
    let dir = crate::support::data_dir();
    let first = ran(command(dir.path()).arg("init").output().unwrap()).expect(0);
    assert!(first.stderr.contains("afterword check"));
    assert_eq!(std::fs::read_to_string(dir.path().join("jobs.toml")).unwrap(), SHIPPED);
    assert!(dir.path().join("data/secret").is_file());
    ran(command(dir.path()).arg("init").output().unwrap()).expect(4);
}

#[test]
fn a_mistake_ends_with_exit_code_2_and_shows_the_place() {
    let dir = crate::support::data_dir();
    std::fs::write(dir.path().join("jobs.toml"), SHIPPED.replace("delay = \"7d\"", "delay = \"soon\""))
        .unwrap();
    let ran = ran(command(dir.path()).arg("check").output().unwrap()).expect(2);
    assert!(ran.stderr.contains(&format!("jobs.toml:{}:", line("delay = \"7d\""))), "{}", ran.stderr);
    assert!(ran.stderr.contains("expected a time such as 7d"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn no_file_says_how_to_get_one() {
    let dir = crate::support::data_dir();
    let ran =
        ran(command(dir.path()).args(["--config", "nowhere.toml", "check"]).output().unwrap()).expect(2);
    assert!(ran.stderr.contains("afterword init"), "{}", ran.stderr);
}

#[test]
fn a_file_that_is_no_text_says_so() {
    let dir = crate::support::data_dir();
    std::fs::write(dir.path().join("jobs.toml"), b"# Num\xE9ro").unwrap();
    let ran = ran(command(dir.path()).arg("check").output().unwrap()).expect(2);
    assert!(ran.stderr.contains("not UTF-8"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_log_that_no_terminal_shows_has_no_colours() {
    let program = Program::new(&shipped()).await;
    let output = command(program.dir.path())
        .env_remove("NO_COLOR")
        .env("RUST_LOG", "info")
        .arg("jobs")
        .output()
        .unwrap();
    let stderr = ran(output).expect(0).stderr;
    assert!(stderr.contains("INFO") && !stderr.contains('\u{1b}'), "{stderr:?}");
}
