//! Debian's chromium, driven by its chromedriver over `WebDriver`, which is plain JSON over HTTP (w3.org/TR/webdriver2). `scripts/chromium.sh`
//! finds or installs both, `scripts/axe.sh` fetches axe-core; `make test` calls them.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{say, test_name};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Under which key an element's reference stands.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser calls itself so. (Headless ones say that they are, and are taken for scanners.)
const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";

/// The screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    pub name: &'static str,
    pub width: u32,
    pub height: u32,
    /// Pixels of the picture per pixel of the page.
    pub scale: u32,
    pub is_touched: bool,
}

pub const PHONE: Screen = Screen { name: "phone", width: 390, height: 844, scale: 2, is_touched: true };
pub const DESK: Screen = Screen { name: "desk", width: 1280, height: 900, scale: 1, is_touched: false };
/// The narrowest that has to work: 1280 pixels at 400 %.
pub const NARROW: Screen = Screen { name: "narrow", width: 320, height: 256, scale: 2, is_touched: true };

/// A browser with a profile of its own. It ends with this value.
pub struct Browser {
    session: String,
}

/// Something on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element(String);

/// What the driver did not do.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Browser {
    /// Starts one; `None`, with a line that cannot be overlooked, where there is none.
    pub fn start(screen: Screen) -> Option<Self> {
        let Some(driver) = driver() else {
            say(&format!(
                "SKIPPED {}: there is no chromium with a chromedriver; see scripts/chromium.sh",
                test_name()
            ));
            return None;
        };
        let mut args = vec![
            "--headless".to_owned(),
            "--hide-scrollbars".to_owned(),
            // Whatever a page asked of another host would fail, and show in the log of requests.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned(),
            format!("--user-agent={AGENT}"),
        ];
        if nix::unistd::Uid::effective().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": driver.browser, "args": args },
            "goog:loggingPrefs": { "performance": "ALL" },
            "pageLoadStrategy": "normal",
        }}});
        let made = call("POST", &format!("{}/session", driver.url), Some(&asked))
            .unwrap_or_else(|error| panic!("{error}"));
        let id = made["sessionId"].as_str().expect("a session has an id");
        let browser = Self { session: format!("{}/session/{id}", driver.url) };
        browser.resize(screen);
        Some(browser)
    }

    pub fn resize(&self, screen: Screen) {
        let Screen { width, height, scale, is_touched, .. } = screen;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_touched });
        self.cdp("Emulation.setDeviceMetricsOverride", size);
        self.cdp("Emulation.setTouchEmulationEnabled", json!({ "enabled": is_touched }));
    }

    /// Where files go that are downloaded.
    pub fn downloads_to(&self, folder: &Path) {
        self.cdp("Browser.setDownloadBehavior", json!({ "behavior": "allow", "downloadPath": folder }));
    }

    /// What the reader has told the system: `[("prefers-color-scheme", "dark")]`. What is not named is as it was at first.
    pub fn prefers(&self, features: &[(&str, &str)]) {
        let features: Vec<_> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Opens a page and waits until it is there.
    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    pub fn url(&self) -> String {
        self.get("/url").as_str().unwrap().to_owned()
    }

    pub fn title(&self) -> String {
        self.get("/title").as_str().unwrap().to_owned()
    }

    /// The text that a reader sees.
    pub fn text(&self) -> String {
        self.text_of("body")
    }

    /// The text that a reader sees of an element.
    pub fn text_of(&self, css: &str) -> String {
        let Element(id) = self.find(css);
        self.get(&format!("/element/{id}/text")).as_str().unwrap().to_owned()
    }

    /// The first element of this selector; waits for it.
    #[track_caller]
    pub fn find(&self, css: &str) -> Element {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(element) = self.all(css).into_iter().next() {
                return element;
            }
            assert!(
                Instant::now() < until,
                "no {css} on {}:\n{}",
                self.title(),
                self.script("return document.body.outerHTML")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn all(&self, css: &str) -> Vec<Element> {
        let found = self.post("/elements", json!({ "using": "css selector", "value": css }));
        let elements = found.as_array().unwrap().iter();
        elements.map(|element| Element(element[ELEMENT].as_str().unwrap().to_owned())).collect()
    }

    /// Whether somebody who looks at the page sees it.
    pub fn shows(&self, css: &str) -> bool {
        let sees = "const e = document.querySelector(arguments[0]);
            return !!e && e.checkVisibility({ visibilityProperty: true })";
        self.script_with(sees, json!([css])).as_bool().unwrap()
    }

    pub fn is_checked(&self, css: &str) -> bool {
        let Element(id) = self.find(css);
        self.get(&format!("/element/{id}/selected")).as_bool().unwrap()
    }

    /// Scrolls there and clicks (or taps) in its middle; fails when something else is there.
    #[track_caller]
    pub fn click(&self, css: &str) {
        let Element(id) = self.find(css);
        self.try_post(&format!("/element/{id}/click"), json!({}))
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Clicks, and waits for the page that it leads to.
    #[track_caller]
    pub fn follow(&self, css: &str) {
        self.script("window.isOld = true");
        self.click(css);
        let until = Instant::now() + PATIENCE;
        let is_there = "return !window.isOld && document.readyState === 'complete'";
        while self.try_script(is_there, json!([])).ok() != Some(true.into()) {
            assert!(Instant::now() < until, "{css} leads nowhere");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types into a field.
    #[track_caller]
    pub fn write(&self, css: &str, text: &str) {
        let Element(id) = self.find(css);
        self.try_post(&format!("/element/{id}/value"), json!({ "text": text }))
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// What stands in a field.
    pub fn value(&self, css: &str) -> String {
        let Element(id) = self.find(css);
        self.get(&format!("/element/{id}/property/value")).as_str().unwrap().to_owned()
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let actions: Vec<_> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({ "type": what, "value": key })))
            .collect();
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// The id of what has the focus, or where a link without one leads.
    pub fn focused(&self) -> String {
        let focused = "const e = document.activeElement; return e.id || e.getAttribute('href') || e.tagName";
        self.script(focused).as_str().unwrap().to_owned()
    }

    pub fn script(&self, script: &str) -> Value {
        self.script_with(script, json!([]))
    }

    pub fn script_with(&self, script: &str, args: Value) -> Value {
        self.try_script(script, args).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_script(&self, script: &str, args: Value) -> Result<Value, Refused> {
        self.try_post("/execute/sync", json!({ "script": script, "args": args }))
    }

    /// The whole page as it looks, into `target/screenshots/<name>.png`.
    pub fn picture(&self, name: &str) {
        let size = self.cdp("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let png =
            STANDARD.decode(self.cdp("Page.captureScreenshot", shot)["data"].as_str().unwrap()).unwrap();
        keep(&format!("{name}.png"), &png);
    }

    /// The page as it is printed on A4, into `target/screenshots/<name>.pdf`.
    pub fn print(&self, name: &str) {
        let paper = json!({ "printBackground": true, "preferCSSPageSize": true });
        let printed = self.cdp("Page.printToPDF", paper);
        keep(&format!("{name}.pdf"), &STANDARD.decode(printed["data"].as_str().unwrap()).unwrap());
    }

    /// What axe-core finds against WCAG 2.2 AA on the page as it is now, one line each; `None`, with a line that cannot be overlooked,
    /// where there is no axe-core.
    pub fn axe(&self) -> Option<Vec<String>> {
        static SOURCE: OnceLock<Option<String>> = OnceLock::new();
        let source = SOURCE.get_or_init(|| {
            let folder = std::fs::read_dir(target().join("axe")).ok()?;
            let script = folder.filter_map(Result::ok).map(|entry| entry.path());
            let script = script.filter(|path| path.to_string_lossy().ends_with(".min.js")).max()?;
            std::fs::read_to_string(script).ok()
        });
        let Some(source) = source else {
            say(&format!("SKIPPED axe-core in {}: it is not here; see scripts/axe.sh", test_name()));
            return None;
        };
        if self.script("return typeof axe") == "undefined" {
            // What the driver evaluates is a function's body, and axe makes itself known to the window only at the top of a script.
            self.cdp("Runtime.evaluate", json!({ "expression": source }));
        }
        let tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
        let run = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: arguments[0], resultTypes: ['violations', 'incomplete'] }).then(
                found => done({ passes: found.passes.length, violations: found.violations, incomplete: found.incomplete }),
                error => done({ error: String(error) }))";
        let found = self.post("/execute/async", json!({ "script": run, "args": [tags] }));
        assert!(found["passes"].as_u64().is_some_and(|passes| passes > 10), "axe-core did not work: {found}");
        let lines = |kind: &str| -> Vec<String> {
            let rules = found[kind].as_array().unwrap().iter();
            rules
                .flat_map(|rule| {
                    rule["nodes"].as_array().unwrap().iter().map(move |node| {
                        let why: Vec<_> = ["any", "all", "none"]
                            .iter()
                            .flat_map(|list| node[list].as_array().unwrap())
                            .map(|check| check["message"].as_str().unwrap_or_default())
                            .collect();
                        format!("{kind} {}: {}: {}", rule["id"], node["html"], why.join("; "))
                    })
                })
                .collect()
        };
        // What it cannot decide counts, too, as long as there is none.
        Some([lines("violations"), lines("incomplete")].concat())
    }

    /// The addresses that were asked for since the last call, and what came back wrong or was said on the console.
    pub fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "performance" }));
        let messages = log.as_array().unwrap().iter().map(|entry| {
            serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap()["message"].take()
        });
        messages
            .filter(|message| message["method"] == "Network.requestWillBeSent")
            .map(|message| message["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    fn cdp(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": params }))
    }

    fn get(&self, path: &str) -> Value {
        call("GET", &format!("{}{path}", self.session), None)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_post(&self, path: &str, body: Value) -> Result<Value, Refused> {
        call("POST", &format!("{}{path}", self.session), Some(&body))
    }
}

/// Keeps a file beside the pictures, for whoever wants to look.
pub fn keep(name: &str, content: &[u8]) {
    let folder = target().join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), content).unwrap();
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = call("DELETE", &self.session, None);
    }
}

fn call(method: &str, url: &str, body: Option<&Value>) -> Result<Value, Refused> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .build()
        .into();
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/json; charset=utf-8");
    let sent = match body {
        Some(body) => agent.run(request.body(body.to_string()).unwrap()),
        None => agent.run(request.body(()).unwrap()),
    };
    let mut response = sent.map_err(|error| Refused(error.to_string()))?;
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string();
    let text = text.map_err(|error| Refused(error.to_string()))?;
    let mut answer: Value =
        serde_json::from_str(&text).map_err(|error| Refused(format!("{error}: {text}")))?;
    let value = answer["value"].take();
    match value.get("error") {
        Some(error) => Err(Refused(format!("{error}: {}", value["message"]))),
        None => Ok(value),
    }
}

/// The chromedriver that all tests of this process share.
struct Driver {
    url: String,
    browser: PathBuf,
    /// It ends when this is closed, and so with this process, however that ends.
    _lifeline: ChildStdin,
    /// The shell that ends it; whoever ends with this process cannot wait for it.
    _watch: Child,
}

fn driver() -> Option<&'static Driver> {
    static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
    DRIVER.get_or_init(start_driver).as_ref()
}

fn start_driver() -> Option<Driver> {
    let browser = program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?;
    let driver = program("CHROMEDRIVER", &["chromedriver"])?;
    // The driver and its browsers are a process group of their own, so that all of them can be ended, with the files they leave. A
    // Ctrl-C reaches us alone.
    let watch = "mkdir -p \"$TMPDIR\"; setsid \"$0\" --port=0 & driver=$!; cat >/dev/null; kill -s KILL -- \"-$driver\"; wait; rm -rf \"$TMPDIR\"";
    let files = std::env::temp_dir().join(format!("afterword-chromium-{}", std::process::id()));
    let mut child = Command::new("sh")
        .args(["-c", watch])
        .arg(&driver)
        .env("TMPDIR", files)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lifeline = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines
        .find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
        })
        .expect("chromedriver says on which port it listens");
    // What it says later has to be read, or it would wait.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Driver { url: format!("http://127.0.0.1:{port}"), browser, _lifeline: lifeline, _watch: child })
}

/// The program that a variable names, else the first of these on the path.
fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|name| !name.is_empty());
    let names: Vec<_> =
        named.map_or_else(|| names.iter().map(PathBuf::from).collect(), |name| vec![name.into()]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    names.iter().find_map(|name| {
        let places = std::env::split_paths(&path).map(|folder| folder.join(name));
        places.into_iter().find(|place| place.is_file())
    })
}

/// The folder that cargo builds in: the tests' program lies in its `debug`.
fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_afterword")).ancestors().nth(2).unwrap()
}
