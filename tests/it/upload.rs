//! Exports to storage that speaks S3: a server here keeps what is put to it, and believes nobody whose signature it cannot make itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::support::program::{Program, shipped};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "a secret of forty characters, or nearly so";

/// What was put there, by path; and how many requests were refused.
#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<(BTreeMap<String, Vec<u8>>, usize)>>);

impl Bucket {
    /// Serves it; comes back with where.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(put).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().0.keys().cloned().collect()
    }
}

async fn put(
    State(bucket): State<Bucket>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let mut kept = bucket.0.lock().unwrap();
    let is_right = method == Method::PUT && is_signed(&method, &uri, &headers, &body) == Some(true);
    if is_right {
        kept.0.insert(uri.path().to_owned(), body.to_vec());
    } else {
        kept.1 += 1;
    }
    (if is_right { StatusCode::OK } else { StatusCode::FORBIDDEN }, [("etag", "\"kept\"")])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether the request carries the signature that Amazon describes as version 4
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).
fn is_signed(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let rest = text("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part =
        |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (scope, names, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let (key, scope) = scope.split_once('/')?;
    let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else { return None };
    let payload = text("x-amz-content-sha256")?;
    if payload != hex(&Sha256::digest(body)) || !names.split(';').any(|name| name == "host") {
        return None;
    }
    let lines: String = names
        .split(';')
        .map(|name| Some(format!("{name}:{}\n", text(name)?.trim())))
        .collect::<Option<_>>()?;
    let query = uri.query().unwrap_or_default();
    let canonical = format!("{method}\n{}\n{query}\n{lines}\n{names}\n{payload}", uri.path());
    let moment = text("x-amz-date")?;
    let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{SECRET}");
    let chain = [day, region, service, end].iter().fold(secret.into_bytes(), |key, part| signed(&key, part));
    Some(
        key == KEY
            && moment.starts_with(day)
            && (region, service) == ("eu-west-3", "s3")
            && hex(&signed(&chain, &to_sign)) == signature,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_put_to_storage_and_a_refusal_fails_the_run() {
    let bucket = Bucket::default();
    let endpoint = bucket.serve().await;
    let upload = format!(
        "keep = 30\nupload = {{ bucket = \"exports\", prefix = \"maison/testimonials\", endpoint = \"{endpoint}\", \
         region = \"eu-west-3\", access_key_id = \"{KEY}\", secret_access_key_file = \"s3_secret\" }}"
    );
    let program = Program::new(&shipped().replace("keep = 30", &upload)).await;
    crate::private::approved(&program.db.pool, "maison", 7, 60).await;
    program.write_secret("s3_secret", format!("{SECRET}\n"));
    let export = ["run", "weekly-testimonials", "--as-of", "2026-03-20T05:00:00Z"];
    program.run(&export).expect(0);
    let place = "/exports/maison/testimonials";
    // Each with what lies beside it.
    let whole = ["latest", "testimonials-2026-03-20"].map(|stem| {
        ["csv", "manifest.json", "notice.en.md", "notice.fr.md"].map(|end| format!("{place}/{stem}.{end}"))
    });
    assert_eq!(bucket.names(), whole.as_flattened());
    let folder = program.path("data/exports/testimonials");
    for (path, kept) in &bucket.0.lock().unwrap().0 {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(*kept, std::fs::read(folder.join(name)).unwrap(), "{path}");
        if name.ends_with(".csv") {
            assert_eq!(csv::Reader::from_reader(kept.as_slice()).records().count(), 7);
        }
    }
    assert_eq!(bucket.0.lock().unwrap().1, 0);

    // A wrong secret: the run fails, says why without it, and the files lie here all the same.
    program.write_secret("s3_secret", "another secret");
    let failed = program.run(&["run", "weekly-testimonials", "--as-of", "2026-03-21T05:00:00Z"]).expect(1);
    let told = failed.stdout + &failed.stderr;
    assert!(told.contains("uploading testimonials-2026-03-21.csv to exports"), "{told}");
    assert!(!told.contains("another secret") && !told.contains(SECRET), "{told}");
    assert!(folder.join("testimonials-2026-03-21.csv").exists());
    assert_eq!((bucket.names().len(), bucket.0.lock().unwrap().1 > 0), (8, true));
}
