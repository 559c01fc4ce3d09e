//! Every mail and page, written as a customer would get it: first with the samples of the templates, then each survey of each shop with
//! its own questions, in each language. What cannot be written now would fail tonight.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use crate::config::{Config, Shop};
use crate::invitations::compose::{self, ComposeError, Facts, Letterhead};
use crate::mail::templates::Templates;
use crate::survey::Survey;
use crate::token::Tokens;
use crate::types::{InvitationId, Locale, ShopId};
use crate::web::preview::Previews;

/// What was written, by the paths of the files it may go to.
pub(super) struct Rendered {
    files: Vec<(String, Vec<u8>)>,
    /// Mails and pages with the samples of the templates.
    pub n_samples: usize,
    /// Mails with the questions of a survey.
    pub n_mails: usize,
    /// Pages with the questions of a survey.
    pub n_pages: usize,
}

/// Everything there is to write.
///
/// # Errors
/// All that is wrong.
pub(super) fn all(
    config: &Arc<Config>,
    templates: &Arc<Templates>,
    now: DateTime<Utc>,
) -> Result<Rendered, Vec<String>> {
    let mut rendered = Rendered { files: Vec::new(), n_samples: 0, n_mails: 0, n_pages: 0 };
    let mut problems = Vec::new();
    for render in templates.check() {
        match render.result {
            Ok(text) => rendered.files.push((render.name, text.into_bytes())),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    rendered.n_samples = rendered.files.len();
    let previews = Previews::new(Arc::clone(config), Arc::clone(templates), "../..");
    for shop in &config.shops {
        for survey in config.surveys.iter().filter(|survey| survey.is_for(&shop.key)) {
            for locale in templates.locales() {
                let mut complain = |what: &str, error: &dyn std::fmt::Display| {
                    let (survey, shop) = (&survey.key, &shop.key);
                    problems
                        .push(format!("the {what} of the survey {survey} for {shop} in {locale}: {error}"));
                };
                match mails(config, templates, shop, survey, locale, now) {
                    Ok(mails) => rendered.add_mails(mails),
                    Err(error) => complain("mail", &error),
                }
                match previews.of(shop, survey, locale, now) {
                    Ok(pages) => {
                        rendered.n_pages += pages.len();
                        let (shop, survey) = (&shop.key, &survey.key);
                        rendered.files.extend(pages.into_iter().map(|page| {
                            let name = format!("pages/{shop}/{survey}.{}.{locale}.html", page.case);
                            (name, page.html.into_bytes())
                        }));
                    }
                    Err(error) => complain("page", &format!("{error:#}")),
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let index = index(rendered.files.iter().map(|(name, _)| name.as_str()));
    rendered.files.extend(previews.stylesheets().map(|(name, css)| (name, css.as_bytes().to_vec())));
    rendered.files.push(("index.html".to_owned(), index.into_bytes()));
    Ok(rendered)
}

impl Rendered {
    /// Into files below a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (name, text) in &self.files {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn add_mails(&mut self, mails: Vec<(String, Vec<u8>)>) {
        self.n_mails += mails.iter().filter(|(name, _)| name.ends_with(".eml")).count();
        self.files.extend(mails);
    }
}

/// The mails that a survey of a shop sends in a language, about a made-up order: their texts, and the messages themselves.
fn mails(
    config: &Config,
    templates: &Templates,
    shop: &Shop,
    survey: &Survey,
    locale: &Locale,
    now: DateTime<Utc>,
) -> Result<Vec<(String, Vec<u8>)>, ComposeError> {
    let tokens = Tokens::new(b"a sample");
    let letterhead = Letterhead {
        shop,
        base_url: &config.app.base_url,
        return_path: config.mail.return_path.as_deref(),
        signer: config.mail.signer.as_ref(),
    };
    let mut files = Vec::new();
    for reminder in [false, true] {
        if !survey.mailed || reminder && survey.reminders.is_empty() {
            continue;
        }
        let facts = Facts {
            shop_id: ShopId(1),
            invitation_id: InvitationId(1),
            questionnaire: &survey.questionnaire,
            order: "A-1001",
            ordered_at: now - survey.delay,
            reminder,
            message_id: None,
            first_name: Some("Claire"),
            locale: Some(locale.as_str()),
            email: "claire@customer.example",
        };
        let texts = compose::texts(templates, &tokens, &letterhead, &facts)?;
        let message = compose::compose(templates, &tokens, &letterhead, &facts, now)?;
        let wave = if reminder { ".reminder" } else { "" };
        let name = |part: &str| format!("mails/{}/{}{wave}.{locale}.{part}", shop.key, survey.key);
        files.extend([
            (name("subject.txt"), format!("{}\n", texts.subject).into_bytes()),
            (name("txt"), texts.text.into_bytes()),
            (name("html"), texts.html.into_bytes()),
            (name("eml"), message.bytes),
        ]);
    }
    Ok(files)
}

/// A page with links to the mails and pages of the surveys. Names are keys and languages, which need no escaping.
fn index<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut page = "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
                    <title>What customers see</title>\n<h1>What customers see</h1>\n<ul>\n"
        .to_owned();
    let ours = names
        .filter(|name| (name.starts_with("mails/") || name.starts_with("pages/")) && name.ends_with(".html"));
    for name in ours {
        page.push_str(&format!("<li><a href=\"{name}\">{name}</a>\n"));
    }
    page.push_str("</ul>\n");
    page
}
