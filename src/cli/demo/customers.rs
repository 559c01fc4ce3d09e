//! The made-up customers at their screens: they read their mails in the outbox, follow the links, and fill in the form, over real HTTP.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mail_parser::MessageParser;

use super::shop::{Answer, Order, Reaction};

/// A mail in somebody's inbox.
pub struct Received<'a> {
    pub order: &'a Order,
    text: String,
}

/// The mails that are new since `seen`, with the orders they are about.
///
/// # Errors
/// When the outbox cannot be read.
pub fn new_mail<'a>(
    outbox: &Path,
    seen: &mut BTreeSet<PathBuf>,
    orders: &'a [Order],
) -> anyhow::Result<Vec<Received<'a>>> {
    let mut received = Vec::new();
    if !outbox.exists() {
        return Ok(received);
    }
    for entry in fs::read_dir(outbox).with_context(|| format!("cannot read {}", outbox.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "eml") || !seen.insert(path.clone()) {
            continue;
        }
        let bytes = fs::read(&path)?;
        let mail = MessageParser::default().parse(&bytes).context("a mail in the outbox cannot be read")?;
        let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap_or_default();
        let text = mail.body_text(0).unwrap_or_default().into_owned();
        let order = orders
            .iter()
            .find(|order| order.customer.email == to && text.contains(&order.id))
            .context("a mail in the outbox is about no order of the shop")?;
        received.push(Received { order, text });
    }
    // In the order of the orders, not of the folder, so that every demo goes the same way.
    received.sort_by(|a, b| a.order.id.cmp(&b.order.id));
    Ok(received)
}

/// A form that somebody has open.
pub struct OpenForm {
    url: String,
    fields: Vec<(String, String)>,
}

/// Opens the mail and does the first thing this person does: nothing, opt out, or open the page. A form comes back when there is
/// something to send later.
///
/// # Errors
/// When the pages do not answer as they should.
pub fn open(mail: &Received<'_>, reaction: &Reaction) -> anyhow::Result<Option<OpenForm>> {
    match reaction {
        Reaction::Ignores => Ok(None),
        Reaction::Unsubscribes => {
            let url = link(&mail.text, "/u/", "")?;
            get(&url)?;
            post(&url, &[("List-Unsubscribe".to_owned(), "One-Click".to_owned())])?;
            Ok(None)
        }
        Reaction::Answers { answer, .. } => {
            // Nobody types the address: it is the link of the mail that says yes or no.
            let url = link(&mail.text, "/s/", &format!("?recommend={}", answer.recommend))?;
            let page = get(&url)?;
            let mut fields = hidden_fields(&page);
            fields.extend(filled_in(answer));
            Ok(Some(OpenForm { url: url.split('?').next().unwrap_or(&url).to_owned(), fields }))
        }
    }
}

/// Sends a form, as the person does after a while.
///
/// # Errors
/// When the page does not take it.
pub fn send(form: &OpenForm) -> anyhow::Result<()> {
    post(&form.url, &form.fields)
}

/// What a mail scanner does on the way to some of them: it opens every link, and sends every form at once as it finds it.
///
/// # Errors
/// When the pages do not answer as they should.
pub fn scan(mail: &Received<'_>, reaction: &Reaction) -> anyhow::Result<()> {
    if !matches!(reaction, Reaction::Answers { scanner_first: true, .. }) {
        return Ok(());
    }
    for url in mail.text.split_whitespace().filter(|word| word.starts_with("http://127.0.0.1")) {
        let page = get(url)?;
        let mut fields = hidden_fields(&page);
        let (name, value) = if url.contains("/s/") { ("recommend", "no") } else { ("confirm", "yes") };
        fields.push((name.to_owned(), value.to_owned()));
        post(url.split('?').next().unwrap_or(url), &fields)?;
    }
    Ok(())
}

fn filled_in(answer: &Answer) -> Vec<(String, String)> {
    let mut fields = vec![
        ("recommend".to_owned(), answer.recommend.to_owned()),
        ("overall".to_owned(), answer.overall.to_string()),
    ];
    fields.extend(answer.topic.map(|topic| ("topic".to_owned(), topic.to_owned())));
    fields.extend(answer.comment.map(|comment| ("comment".to_owned(), comment.to_owned())));
    if let Some(name) = &answer.publish_as {
        fields.push(("publish".to_owned(), "yes".to_owned()));
        fields.push(("publish.name".to_owned(), name.clone()));
    }
    fields
}

/// The link of a mail's text that contains one thing and ends with another.
fn link(text: &str, containing: &str, ending: &str) -> anyhow::Result<String> {
    text.split_whitespace()
        .find(|word| word.starts_with("http") && word.contains(containing) && word.ends_with(ending))
        .map(str::to_owned)
        .with_context(|| format!("a mail has no link with {containing} and {ending}"))
}

/// The hidden fields of a page's form. The page is our own, so its shape is known.
fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\""))?.1.split_once('"')?.0;
        Some(value.to_owned())
    };
    page.split("<input type=\"hidden\"")
        .skip(1)
        .filter_map(|rest| {
            let tag = rest.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        })
        .collect()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        // The pages are served anew for each visit; a kept connection would be a dead one.
        .max_idle_connections(0)
        .build()
        .into()
}

fn get(url: &str) -> anyhow::Result<String> {
    let mut response = agent().get(url).call().context("a page does not answer")?;
    ensure!(response.status().is_success(), "a page answers {}", response.status());
    response.body_mut().read_to_string().context("a page ends early")
}

fn post(url: &str, fields: &[(String, String)]) -> anyhow::Result<()> {
    let form = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let response = agent().post(url).send_form(form).context("a page does not answer")?;
    ensure!(response.status().is_success(), "a page answers {} to a form", response.status());
    Ok(())
}
