//! The pages in a real browser: headless Chromium, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use paceline_proto::client::{Access, RunClient};
use paceline_proto::model::{Registration, ResultBody, RunId, RunSpec, RunStatus};
use serde_json::{Value, json};

use crate::cluster::{Cluster, evaluation, registration, result, spec};
use crate::logins::Guarded;

/// `chromedriver` on a port of its own; ends with the test.
struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    /// `None` if there is no driver or no browser for it.
    fn start() -> Option<Self> {
        let found = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        if !found("chromedriver") || !(found("chromium") || found("google-chrome")) {
            return None;
        }
        let mut child = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn().ok()?;
        let lines = BufReader::new(child.stdout.take()?).lines().map_while(Result::ok);
        let port = lines
            .filter_map(|line| {
                line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
            })
            .next()
            .expect("chromedriver says its port");
        Some(Self { child, address: format!("http://127.0.0.1:{port}") })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; its browser ends with the session, or with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of chromedriver beyond the standard.
#[derive(Debug)]
struct Chrome(&'static str, Value);

impl WebDriverCompatibleCommand for Chrome {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

/// A tab and what the tests ask of it.
struct Tab {
    client: Client,
    shots: PathBuf,
}

impl Tab {
    async fn open(driver: &Driver, downloads: &Path) -> Self {
        let shots = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let capabilities = json!({
            "goog:chromeOptions": {
                // Containers run tests as root and have a small /dev/shm.
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                         "--window-size=1200,900"],
                "prefs": { "download.default_directory": downloads, "download.prompt_for_download": false },
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&driver.address).await.expect("a browser starts");
        Self { client, shots }
    }

    async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page is there");
    }

    /// What a script answers.
    async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script answers true; the page must get there by itself.
    async fn until(&self, what: &str, script: &str) {
        let asking = async {
            while self.ask(script).await != Value::Bool(true) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), asking).await.is_err() {
            panic!("{what} never came: {}", self.ask("return document.body.innerText").await);
        }
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.client.issue_cmd(Chrome("goog/cdp/execute", body)).await.expect("chromedriver knows it");
    }

    /// Makes the page as wide as a phone or a desk.
    async fn size(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Keeps a picture of what is seen, beside other artefacts of the tests.
    async fn shoot(&self, name: &str) {
        let png = self.client.screenshot().await.expect("a picture");
        std::fs::write(self.shots.join(format!("dashboard-{name}.png")), png).expect("the artefact can be kept");
    }

    /// What the page's console says.
    async fn console(&self) -> Value {
        self.client.issue_cmd(Chrome("se/log", json!({"type": "browser"}))).await.expect("chromedriver keeps logs")
    }

    /// Everything a reader who does not see, or sees little, would miss.
    async fn check(&self, what: &str) {
        for scheme in ["light", "dark"] {
            self.scheme(scheme).await;
            assert_eq!(self.ask(CONTRAST).await, json!([]), "{what}, {scheme}: contrast below 4.5 (lines: 3)");
        }
        assert_eq!(self.ask(LABELS).await, json!([]), "{what}: labels");
        self.size(375, 812).await;
        assert_eq!(self.ask(TOO_WIDE).await, json!([]), "{what}: wider than a phone");
        self.shoot(&format!("{what}-phone")).await;
        self.size(1200, 900).await;
    }
}

/// Names of what lacks a label, or points to one that is not there.
const LABELS: &str = r#"
const faults = [];
const must = (right, what) => { if (!right) faults.push(what); };
const all = (selector) => [...document.querySelectorAll(selector)];
must(document.documentElement.lang === "en", "lang");
must(document.title.includes("Paceline"), "title");
for (const one of ["main", "header", "footer", "h1"]) must(all(one).length === 1, `one ${one}`);
all("section").forEach((s) => must(s.hasAttribute("aria-labelledby") , `section ${s.id}`));
all("nav").forEach((n) => must(n.ariaLabel, "nav"));
all("table").forEach((t) => must(t.caption?.innerText.trim(), "caption"));
all("table th").forEach((h) => must(h.scope, `scope of ${h.innerText}`));
all("svg[role=img]").forEach((s) => must(s.querySelector("title")?.textContent && s.querySelector("desc")?.textContent, "svg"));
all("svg:not([role=img])").forEach((s) => must(s.ariaHidden === "true", "ornament"));
all("[aria-labelledby],[aria-describedby]").forEach((e) => {
  for (const id of [e.getAttribute("aria-labelledby"), e.getAttribute("aria-describedby")])
    if (id) must(document.getElementById(id), `target ${id}`);
});
all("input").forEach((i) => must(i.labels.length === 1, `input ${i.id}`));
all("button").forEach((b) => must(b.innerText.trim() && b.type === "submit", "button"));
all("a").forEach((a) => must(a.innerText.trim() && a.href, "link"));
const ids = all("[id]").map((e) => e.id);
must(new Set(ids).size === ids.length, `ids twice: ${ids.filter((id, n) => ids.indexOf(id) !== n)}`);
let level = 0;
all("h1,h2,h3").forEach((h) => { const n = +h.tagName[1]; must(n <= level + 1, `heading ${h.innerText}`); level = n; });
return faults;
"#;

/// Texts and lines that do not stand out from their ground, by the formula of WCAG 2.
const CONTRAST: &str = r#"
const parse = (color) => color.match(/[\d.]+/g).map(Number);
const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const faults = [];
const judge = (e, color, least) => {
  const r = ratio(parse(color), ground(e));
  if (!(r >= least)) faults.push(`${e.tagName} "${(e.textContent || "").trim().slice(0, 40)}" ${color}: ${r.toFixed(2)}`);
};
for (const e of document.querySelectorAll("body *")) {
  if (["SCRIPT", "NOSCRIPT", "TITLE", "DESC"].includes(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (own) judge(e, e instanceof SVGElement ? style.fill : style.color, 4.5);
  if (e.tagName === "polyline" && +style.strokeWidth.replace("px", "") >= 2) judge(e, style.stroke, 3);
}
return faults;
"#;

/// What stands beyond the right edge of a phone.
const TOO_WIDE: &str = r#"
const faults = [];
const root = document.documentElement;
if (root.scrollWidth > 375) faults.push(`page ${root.scrollWidth}`);
for (const e of document.querySelectorAll("main *, header *, footer *")) {
  const box = e.getBoundingClientRect();
  if (box.width > 1 && box.right > 375.5) faults.push(`${e.tagName}.${e.className} to ${box.right}`);
  if (!(e instanceof SVGElement) && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible" && box.width > 1)
    faults.push(`${e.tagName} scrolls`);
}
return faults;
"#;

/// Two families, six steps.
fn two_families(name: &str) -> RunSpec {
    let mut whole = serde_json::to_value(spec(name)).unwrap();
    whole["outer"]["steps"] = json!(6);
    whole["outer"]["slots"] = json!(4);
    whole["tasks"] = json!([{"family": "image_mlp"}, {"family": "quadratic"}]);
    serde_json::from_value(whole).unwrap()
}

/// Points of the first line of the curve.
const POINTS: &str = r##"
const line = document.querySelector('#meta-loss polyline[stroke="#0B57A4"]');
return line ? line.getAttribute("points").trim().split(/\s+/).length : 0;
"##;

/// What the first figure of the evaluation is made of, in colours of the page's style.
const DRAWN: &str = r##"
const figure = document.querySelector("#evaluation-0");
const tinted = (e, of) => getComputedStyle(e)[of] !== getComputedStyle(figure)[of] && getComputedStyle(e)[of] !== "none";
const count = (selector, of) => [...figure.querySelectorAll(selector)].filter((e) => tinted(e, of)).length;
return { lines: count('polyline[stroke-width="2"]', "stroke"), shades: count("polygon", "fill"),
         legend: figure.querySelectorAll(".legend li").length };
"##;

/// Computes one outer step of the run.
async fn step(cluster: &Cluster, worker: &paceline_proto::model::WorkerId) {
    for _ in 0..4 {
        let lease = cluster.lease(worker).await;
        let beat = cluster.workers.heartbeat(worker, std::slice::from_ref(&lease.key), lease.epoch, 1000).await;
        beat.expect("a heartbeat is answered");
        let mut submission = result(worker, &lease);
        if let ResultBody::SeedCoded(coded) = &mut submission.body {
            // Losses that fall, each family from a height of its own.
            let family = lease.window.current.family as f64;
            let loss = 0.4 + 0.3 * family + (2.0 - family) / (1.0 + lease.key.outer_step as f64);
            for pair in &mut coded.pairs {
                (pair.loss_plus, pair.loss_minus) = (loss + 0.1, loss - 0.1);
            }
        }
        cluster.workers.submit(&submission).await.expect("a sound result");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_in_a_browser_without_a_reload() {
    let Some(driver) = Driver::start() else {
        crate::announce("SKIPPED browser: no chromedriver with chromium (apt-get install chromium chromium-driver)");
        return;
    };
    let downloads = tempfile::tempdir().unwrap();
    let cluster = Cluster::start().await;
    let site = format!("http://{}", cluster.admin);
    let tab = Tab::open(&driver, downloads.path()).await;

    // A run appears, on a page that is never loaded again.
    tab.goto(&site).await;
    tab.ask("window.mark = 1").await;
    tab.until("the empty page", "return document.body.innerText.includes('No runs yet')").await;
    let families = vec!["image_mlp".to_owned(), "quadratic".to_owned()];
    let worker = registration("w1").worker;
    cluster.workers.register(Registration { families, ..registration("w1") }).await.unwrap();
    let run: RunId = cluster.runs.create(&two_families("seen"), &[], "request", false).await.unwrap().state.run;
    tab.until("the run", &format!("return document.body.innerText.includes('{run}')")).await;
    tab.until("the worker", "return document.querySelector('#workers table') !== null").await;
    step(&cluster, &worker).await;
    tab.until("the first step", "return document.querySelector('#newest-loss polyline') !== null").await;
    tab.check("overview").await;
    assert_eq!(tab.ask("return window.mark").await, json!(1), "the page was loaded again");

    // By keyboard: the first stop skips to the content, and the run's link leads to its page.
    let tabbed = "return document.activeElement.className";
    tab.client.active_element().await.unwrap().send_keys("\u{E004}").await.unwrap();
    assert_eq!(tab.ask(tabbed).await, json!("skip"));
    let link = tab.client.find(Locator::Id(&format!("run-{run}"))).await.unwrap();
    link.send_keys("\u{E007}").await.unwrap();
    tab.until("the run's page", "return location.pathname.startsWith('/runs/')").await;

    // Its curve grows; focus, place and an opened recipe stay where they are.
    tab.ask("window.mark = 2; document.querySelector('#recipe').open = true").await;
    tab.until("a checkpoint", "return document.getElementById('checkpoint-1') !== null").await;
    tab.ask("document.getElementById('checkpoint-1').focus(); window.scrollTo(0, 300)").await;
    for done in 2..=5 {
        step(&cluster, &worker).await;
        let script = format!("const points = () => {{ {POINTS} }}; return points() === {done};");
        tab.until(&format!("the curve of {done} steps"), &script).await;
    }
    assert_eq!(tab.ask("return document.activeElement.id").await, json!("checkpoint-1"), "focus moved");
    assert_eq!(tab.ask("return document.querySelector('#recipe').open").await, json!(true));
    assert_eq!(tab.ask("return Math.round(window.scrollY)").await, json!(300), "the page moved");
    tab.ask("window.scrollTo(0, 0)").await;

    // A checkpoint that somebody evaluated shows its curves beside those of the baselines.
    assert!(
        tab.ask("return document.getElementById('evaluations').innerText").await.as_str().unwrap().contains("None yet")
    );
    let info = cluster.checkpoints.get(&run, Some(5)).await.unwrap();
    let evaluation = evaluation(&info, &["image_mlp", "quadratic"]);
    cluster.runs.record_evaluation(&run, &evaluation).await.unwrap();
    tab.until("the evaluation", "return document.querySelectorAll('#evaluations figure').length === 2").await;
    assert_eq!(tab.ask(DRAWN).await, json!({"lines": 3, "shades": 3, "legend": 3}));
    assert_eq!(tab.ask("return document.getElementById('said').textContent").await, json!("Step 5 is evaluated"));
    tab.ask("document.getElementById('evaluations').scrollIntoView()").await;
    for scheme in ["light", "dark"] {
        tab.scheme(scheme).await;
        tab.shoot(&format!("evaluation-{scheme}")).await;
    }
    tab.size(375, 812).await;
    tab.ask("document.getElementById('evaluations').scrollIntoView()").await;
    tab.shoot("evaluation-phone").await;
    tab.size(1200, 900).await;
    tab.ask("window.scrollTo(0, 0)").await;
    tab.check("run").await;

    // It ends, is said to have ended, and its checkpoint comes down whole.
    step(&cluster, &worker).await;
    tab.until("the end", "return document.querySelector('#standing .completed') !== null").await;
    assert_eq!(
        tab.ask("return document.getElementById('said').textContent").await,
        json!(format!("{run} is completed"))
    );
    assert_eq!(tab.ask("return window.mark").await, json!(2), "the page was loaded again");
    tab.until("the last checkpoint", "return document.getElementById('checkpoint-6') !== null").await;
    tab.client.find(Locator::Id("checkpoint-6")).await.unwrap().click().await.unwrap();
    let file = downloads.path().join(format!("{run}-6.safetensors"));
    let coming = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), coming).await.expect("the checkpoint comes down");
    assert_eq!(std::fs::read(&file).unwrap(), cluster.checkpoints.pull(&run, Some(6)).await.unwrap());

    for scheme in ["light", "dark"] {
        tab.scheme(scheme).await;
        tab.shoot(&format!("run-{scheme}")).await;
    }
    tab.goto(&site).await;
    tab.shoot("overview-dark").await;
    tab.scheme("light").await;
    tab.shoot("overview-light").await;
    assert_eq!(tab.console().await, json!([]), "the console is empty");

    tab.goto(&format!("{site}/runs/nobody")).await;
    assert_eq!(tab.ask("return document.querySelector('h1').innerText").await, json!("No such run"));
    tab.check("unknown").await;
    tab.client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_paused_and_stopped_by_whoever_logs_in() {
    let Some(driver) = Driver::start() else {
        crate::announce(
            "SKIPPED browser login: no chromedriver with chromium (apt-get install chromium chromium-driver)",
        );
        return;
    };
    let downloads = tempfile::tempdir().unwrap();
    let guarded = Guarded::start().await;
    let run = guarded.run().await;
    let (site, tab) = (format!("http://{}", guarded.cluster.admin), Tab::open(&driver, downloads.path()).await);
    tab.goto(&format!("{site}/runs/{run}")).await;
    assert_eq!(tab.ask("return document.querySelector('#pause')").await, Value::Null, "a stranger steers nothing");
    let stranger = Access::default().link(&format!("http://{}", guarded.cluster.address)).unwrap();
    RunClient::new(stranger).list().await.unwrap_err();
    tab.goto(&format!("{site}/")).await;
    tab.client.find(Locator::Id("refused-title")).await.unwrap().click().await.unwrap();
    tab.check("refused").await;
    tab.goto(&format!("{site}/login")).await;
    tab.check("login").await;
    let enter = async |text: &str| {
        let field = tab.client.find(Locator::Id("token")).await.unwrap();
        field.send_keys(&format!("{text}\u{E007}")).await.unwrap();
    };
    enter("plt1.wrong").await;
    tab.until("the refusal", "return document.querySelector('[role=alert]') !== null").await;
    enter(&guarded.operator).await;
    tab.until("the login", "return document.getElementById('logout') !== null").await;
    tab.goto(&format!("{site}/runs/{run}")).await;
    tab.until("its survey", "return document.getElementById('pause') !== null").await;
    tab.check("steered").await;
    tab.client.find(Locator::Id("pause")).await.unwrap().click().await.unwrap();
    tab.until("the pause", "return document.querySelector('#standing .paused') !== null").await;
    assert_eq!(guarded.runs.get(&run).await.unwrap().status, RunStatus::Paused);
    tab.until("the other button", "return document.getElementById('resume') !== null").await;
    tab.client.find(Locator::Id("stop")).await.unwrap().click().await.unwrap();
    tab.until("the question", "return document.querySelector('h1').innerText.startsWith('Stop ')").await;
    tab.check("stop").await;
    tab.client.find(Locator::Id("stop")).await.unwrap().click().await.unwrap();
    tab.until("the end", "return document.querySelector('#standing .stopped') !== null").await;
    assert_eq!(tab.ask("return document.querySelector('#resume, #pause, #stop')").await, Value::Null);
    tab.client.find(Locator::Id("logout")).await.unwrap().click().await.unwrap();
    tab.until("the logout", "return document.querySelector('a[href=\"/login\"]') !== null").await;
    tab.client.close().await.unwrap();
}
