//! [2] The mail itself: what it is made of, what `check` says of it, and addresses in any characters.

use std::path::Path;
use std::sync::Arc;

use afterword::cli::init::SHIPPED;
use afterword::config::Config;
use afterword::mail::templates::MAILS;

use crate::support::factories::{self, Order};
use crate::support::program::{Program, command, ran, shipped, shipped_with};
use crate::support::smtp::{self, Relay, Security};

/// The shipped configuration with lines more for its shop.
fn with_shop_lines(lines: &str) -> String {
    shipped().replacen("\n[[shop]]\n", &format!("\n[[shop]]\n{lines}\n"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_writes_the_mail_of_each_shop_and_survey_in_each_language() {
    let shop = "logo = \"https://maison.example/logo.png\"\naddress = \"\"\"\n12 rue de l’Exemple,\n75002 Paris\"\"\"\n\
                privacy_url = \"https://maison.example/confidentialite\"";
    let config = with_shop_lines(shop).replace("# templates_dir", "templates_dir");
    let program = Program { dir: crate::support::data_dir(), db: crate::support::TestDb::new().await };
    // A language that the folder adds, with all of its files.
    let of = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    program.write("templates/words.he.toml", of("templates/words.en.toml"));
    for mail in MAILS {
        for (part, kind) in [("subject", "txt"), ("body", "txt"), ("body", "html")] {
            let text = of(&format!("templates/email/{}/{part}.en.{kind}.hbs", mail.name));
            program.write(&format!("templates/email/{}/{part}.he.{kind}.hbs", mail.name), text);
        }
    }
    program.configure(&config);
    let checked = program.run(&["check", "--json", "--render", "renders"]).expect(0).json();
    assert_eq!(
        checked["mails"], 15,
        "three surveys, two of them with reminders, in three languages: {checked}"
    );
    let read = |name: &str| std::fs::read_to_string(program.path("renders/mails/maison").join(name)).unwrap();
    assert_eq!(
        read("satisfaction.fr.subject.txt").trim(),
        "Recommanderiez-vous Maison Exemple à un proche ?"
    );
    assert_eq!(read("satisfaction.en.subject.txt").trim(), "Would you recommend Maison Exemple to a friend?");
    for part in ["fr.html", "fr.txt", "en.html", "en.txt", "he.html", "he.txt"] {
        let text = read(&format!("satisfaction.{part}"));
        for piece in
            ["12 rue de l’Exemple, 75002 Paris", "https://maison.example/confidentialite", "recommend"]
        {
            assert!(text.contains(piece), "no {piece:?} in {part}:\n{text}");
        }
        assert_eq!(part.ends_with("html"), text.contains("logo.png"), "{part}");
    }
    assert!(read("satisfaction.he.html").contains("dir=\"rtl\""));
    let message = std::fs::read(program.path("renders/mails/maison/satisfaction.fr.eml")).unwrap();
    let message = mail_parser::MessageParser::default().parse(&message).unwrap();
    assert!(message.header_raw("List-Unsubscribe").is_some() && message.html_body_count() == 1);
    // The pages say who asks, too.
    assert!(
        std::fs::read_to_string(program.path("renders/page/thanks.fr.html"))
            .unwrap()
            .contains("Ce que nous faisons")
    );

    // A mistake in what mails share is shown with its place, and before the first mail.
    program.write("templates/email/answers.html.hbs", "<p>\n{{question.txt}}</p>");
    let wrong = program.run(&["check"]).expect(2);
    assert!(wrong.stderr.contains("email/answers.html.hbs:2:"), "{}", wrong.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_what_mail_providers_take_offence_at() {
    let warnings = async |config: &str| {
        let program = Program::new(config).await;
        let said = program.run(&["check"]).expect(0).stderr;
        let listed = program.run(&["check", "--json"]).expect(0).json();
        let listed: Vec<String> = listed["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect();
        assert!(listed.iter().all(|warning| said.contains(&format!("warning: {warning}"))), "{said}");
        listed
    };
    assert_eq!(warnings(&shipped()).await, [""; 0], "no mail leaves");
    let nameless = warnings(&shipped_with(25)).await;
    assert!(nameless.iter().any(|warning| warning.contains("no privacy_url and no address")), "{nameless:?}");
    let complete = "[[shop]]\naddress = \"12 rue de l’Exemple, 75002 Paris\"\nprivacy_url = \"https://maison.example/vie-privee\"";
    let smtp = shipped_with(25).replacen("\n[[shop]]", &format!("\n{complete}"), 1);
    let plain = warnings(&smtp).await;
    assert!(plain.len() == 1 && plain[0].contains("base_url is not https"), "{plain:?}");
    let https =
        smtp.replace("base_url = \"http://127.0.0.1:8080\"", "base_url = \"https://avis.maison.example\"");
    let with_return_path = |path: &str| {
        https.replace("# return_path = \"bounces@shop.example\"", &format!("return_path = {path:?}"))
    };
    assert_eq!(warnings(&https).await, [""; 0]);
    assert_eq!(warnings(&with_return_path("bounces@mail.maison.example")).await, [""; 0]);
    let foreign = warnings(&with_return_path("bounces@bulk.example")).await;
    assert!(foreign.len() == 1 && foreign[0].contains("DMARC"), "{foreign:?}");
}

#[test]
fn what_a_shop_says_about_itself_is_checked() {
    let lines = |lines: &str| {
        let config = SHIPPED.replacen("\n[[shop]]\n", &format!("\n[[shop]]\n{lines}\n"), 1);
        Config::parse(Path::new("jobs.toml"), &config).err().map(|error| error.lines()).unwrap_or_default()
    };
    assert_eq!(lines("logo = \"https://maison.example/logo.png\"\naddress = \"Paris\""), [""; 0]);
    for (key, value) in [
        ("logo", "logo.png"),
        ("logo", "javascript:alert(1)"),
        ("privacy_url", "https://"),
        ("logo", "https://a b"),
    ] {
        let found = lines(&format!("{key} = {value:?}"));
        assert!(found.len() == 1 && found[0].contains("is not a web address"), "{key} = {value}: {found:?}");
    }
}

#[cfg(not(feature = "dkim"))]
#[test]
fn signing_says_how_it_is_built() {
    let dkim = "\n[mail.dkim]\ndomain = \"maison.example\"\nselector = \"s1\"\nkey = \"x\"\n\n[[shop]]\n";
    let config = SHIPPED.replacen("\n[[shop]]\n", dkim, 1);
    let error = Config::parse(Path::new("jobs.toml"), &config).unwrap_err();
    let lines = error.lines();
    assert!(lines.len() == 1 && lines[0].contains("--features dkim"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_stands_before_the_at_sign_needs_a_relay_that_takes_other_characters() {
    // This relay does not offer SMTPUTF8.
    let (server, pem) = smtp::certificate();
    let relay = Relay::secure(Security::Implicit(Arc::clone(&server)));
    let config = shipped_with(relay.port)
        .replace("host = \"127.0.0.1\"", "host = \"localhost\"")
        .replace("tls = \"none\"", "tls = \"implicit\"\nusername = \"shop\"\npassword = \"correct horse\"");
    let program = Program::new(&config).await;
    program.write("trusted.pem", pem);
    program.run(&["migrate"]).expect(0);
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    for (order, email) in [("domain", "claire@bücher.example"), ("local", "zoë@customer.example")] {
        let customer = factories::customer(pool, shop, email).await;
        Order::new(shop, customer, order).insert(pool).await;
    }
    let mut command = command(program.dir.path());
    let args = ["run", "send-invitations", "--as-of", "2026-03-12T10:00:00Z"];
    ran(command.env("SSL_CERT_FILE", program.path("trusted.pem")).args(args).output().unwrap()).expect(3);
    let accepted = relay.accepted();
    let recipients: Vec<&str> = accepted.iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(recipients, ["claire@xn--bcher-kva.example"]);
    assert_eq!(accepted[0].header("To").unwrap(), "Claire <claire@xn--bcher-kva.example>");
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(
        r#"select o.external_id, i.state::text, a.enhanced_code
           from invitation i join "order" o using (shop_id, order_id) join attempt a using (shop_id, invitation_id) order by 1"#,
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let row = |order: &str, state: &str, code: Option<&str>| {
        (order.to_owned(), state.to_owned(), code.map(str::to_owned))
    };
    assert_eq!(
        rows,
        [row("domain", "sent", None), row("local", "failed", Some("5.6.7"))],
        "not tried for ever"
    );
    let suppressed: i64 =
        sqlx::query_scalar("select count(*) from suppression").fetch_one(pool).await.unwrap();
    assert_eq!(suppressed, 0, "the address may well exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_takes_other_characters_gets_them() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["migrate"]).expect(0);
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "zoë@bücher.example").await;
    Order::new(shop, customer, "A-1").insert(pool).await;
    program.run(&["run", "send-invitations", "--as-of", "2026-03-12T10:00:00Z"]).expect(0);
    let accepted = relay.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].to, "zoë@xn--bcher-kva.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_under_both_forms_of_a_domain() {
    let program = Program::new(&shipped()).await;
    program.write(
        "orders.csv",
        "order_id,email,ordered_at,fulfilled_at\n\
         A-1,Jörg@Bücher.example,2026-03-01T09:00:00Z,2026-03-03T09:00:00Z\n\
         A-2,jörg@xn--bcher-kva.example,2026-03-01T10:00:00Z,2026-03-03T09:00:00Z\n",
    );
    program.run(&["import", "orders", "orders.csv"]).expect(0);
    let keys: Vec<String> =
        sqlx::query_scalar("select email_key from customer").fetch_all(&program.db.pool).await.unwrap();
    assert_eq!(keys, ["jörg@xn--bcher-kva.example"]);
    program.run(&["suppress", "add", "JÖRG@bücher.example", "--shop", "maison"]).expect(0);
    let story = program.run(&["explain", "customer", "jörg@xn--bcher-kva.example"]).expect(0).stdout;
    assert!(
        story.contains("2 orders") && story.contains("do-not-contact list of the shop maison"),
        "{story}"
    );
}

/// Signing, judged by a verifier of the tests' own, after RFC 6376 (relaxed) and RFC 8463.
#[cfg(feature = "dkim")]
mod dkim {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use ring::signature::{self, KeyPair as _, UnparsedPublicKey};
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A key that signs nothing but these tests.
    const RSA: &str = include_str!("data/dkim/rsa.pem");

    /// Name and value of each header, unfolded but else as it is, and the body.
    fn parts(message: &[u8]) -> (Vec<(String, String)>, String) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", "\t");
        let headers = unfolded.split("\r\n").map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.to_owned())
        });
        (headers.collect(), body.to_owned())
    }

    fn words(text: &str) -> String {
        text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn relaxed_body(body: &str) -> String {
        let line = |line: &str| {
            let lead = if line.starts_with([' ', '\t']) { " " } else { "" };
            format!("{lead}{}", words(line))
        };
        let lines: Vec<String> = body.split("\r\n").map(|text| line(text).trim_end().to_owned()).collect();
        let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        lines[..end].iter().map(|line| format!("{line}\r\n")).collect()
    }

    /// Whether the message is what was signed, and what the signature covers.
    fn verify(message: &[u8], key: &UnparsedPublicKey<Vec<u8>>) -> (bool, Vec<String>) {
        let (headers, body) = parts(message);
        let signature = &headers.iter().find(|(name, _)| name == "dkim-signature").unwrap().1;
        let tags: BTreeMap<String, String> = signature
            .split(';')
            .filter_map(|tag| tag.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.replace([' ', '\t'], "")))
            .collect();
        assert_eq!((tags["d"].as_str(), tags["s"].as_str()), ("maison.example", "s1"));
        assert_eq!(tags["c"], "relaxed/relaxed");
        let covered: Vec<String> = tags["h"].split(':').map(str::to_lowercase).collect();
        let mut signed = String::new();
        for name in &covered {
            if let Some((name, value)) = headers.iter().rfind(|(other, _)| other == name) {
                signed.push_str(&format!("{name}:{}\r\n", words(value)));
            }
        }
        let unsigned = words(signature).replace(&words(&signature[signature.rfind("b=").unwrap() + 2..]), "");
        signed.push_str(&format!("dkim-signature:{unsigned}"));
        let body_holds = BASE64.encode(Sha256::digest(relaxed_body(&body))) == tags["bh"];
        let made = BASE64.decode(&tags["b"]).unwrap();
        let holds = match tags["a"].as_str() {
            "rsa-sha256" => key.verify(signed.as_bytes(), &made),
            "ed25519-sha256" => key.verify(&Sha256::digest(&signed), &made),
            other => panic!("{other}"),
        };
        (body_holds && holds.is_ok(), covered)
    }

    async fn check(key_file: &str, key: UnparsedPublicKey<Vec<u8>>) {
        let relay = Relay::start();
        let dkim = "\n[mail.dkim]\ndomain = \"maison.example\"\nselector = \"s1\"\nkey_file = \"dkim.key\"\n\n[[shop]]\n";
        let program = Program { dir: crate::support::data_dir(), db: crate::support::TestDb::new().await };
        program.write_secret("dkim.key", key_file);
        program.configure(&shipped_with(relay.port).replacen("\n[[shop]]\n", dkim, 1));
        program.run(&["migrate"]).expect(0);
        let pool = &program.db.pool;
        let shop = factories::shop(pool, "maison").await;
        let customer = factories::customer(pool, shop, "claire@customer.example").await;
        Order::new(shop, customer, "A-1").insert(pool).await;
        program.run(&["run", "send-invitations", "--as-of", "2026-03-12T10:00:00Z"]).expect(0);
        let message = relay.accepted()[0].message.clone();
        let (holds, covered) = verify(&message, &key);
        assert!(holds, "{}", String::from_utf8_lossy(&message));
        for name in
            ["from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post"]
        {
            assert!(covered.iter().any(|other| other == name), "{name} is not in {covered:?}");
        }
        // Whatever is changed on the way, it is noticed.
        let text = String::from_utf8(message).unwrap();
        for (from, to) in [
            ("List-Unsubscribe=One-Click", "List-Unsubscribe=Two-Click"),
            ("List-Unsubscribe: <http", "List-Unsubscribe: <ftp"),
            ("Subject: ", "Subject: Re: "),
            ("claire@customer", "clara@customer"),
            ("</html>", "</html>x"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(!verify(text.replacen(from, to, 1).as_bytes(), &key).0, "{from} became {to}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signature_covers_what_it_has_to_and_holds() {
        let der: String = RSA.lines().filter(|line| !line.starts_with('-')).collect();
        let pair = signature::RsaKeyPair::from_der(&BASE64.decode(der).unwrap()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        check(RSA, UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public)).await;

        let pair = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        check(&format!("{}\n", BASE64.encode([7; 32])), UnparsedPublicKey::new(&signature::ED25519, public))
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_that_is_none_is_a_mistake_in_the_configuration() {
        let program = Program::new(&shipped()).await;
        program.write_secret(
            "dkim.key",
            "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n",
        );
        let dkim = "\n[mail.dkim]\ndomain = \"maison.example\"\nselector = \"s1\"\nkey_file = \"dkim.key\"\n\n[[shop]]\n";
        program.configure(&shipped().replacen("\n[[shop]]\n", dkim, 1));
        let checked = program.run(&["check"]).expect(2);
        assert!(
            checked.stderr.contains("has a key that is neither") && !checked.stderr.contains("c2VjcmV0"),
            "{}",
            checked.stderr
        );
    }
}
