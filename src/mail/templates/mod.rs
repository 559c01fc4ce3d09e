//! The texts of mails and pages. Comes in: the templates compiled into the binary, and a folder that overrides them file by file.
//! Goes out: rendered mails and pages.
//!
//! Everything is read and compiled, and rendered with its sample in every language, before the first customer sees any of it: a
//! mistake in a template stops the start, with the file and the line, and not the ten-thousandth mail. There are two registries,
//! because what escapes HTML must not escape the text of a mail. Nothing here is written; dying half way leaves nothing behind.

pub mod palette;
pub mod views;
pub mod words;
mod inline;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, RenderErrorReason, ScopedJson,
};

use self::views::{Page, View};
use self::words::Words;
use crate::config::problem::position;
use crate::nearest::did_you_mean;
use crate::types::Locale;

/// The mails.
pub const MAILS: &[Kind] = &[
    Kind::mail::<views::SurveyInvitation>(),
    Kind::mail::<views::Alert>(),
    Kind::mail::<views::ReportMail>(),
    Kind::mail::<views::Rejected>(),
    Kind::mail::<views::DigestMail>(),
];

/// The pages.
pub const PAGES: &[Kind] = &[
    Kind::page::<views::SurveyPage>(),
    Kind::page::<views::ThanksPage>(),
    Kind::page::<views::ClosedPage>(),
    Kind::page::<views::WithdrawPage>(),
    Kind::page::<views::WithdrawnPage>(),
    Kind::page::<views::UnsubscribePage>(),
    Kind::page::<views::UnsubscribedPage>(),
    Kind::page::<views::MessagePage>(),
];

macro_rules! built_in {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path)))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "words.en.toml",
    "words.fr.toml",
    "email/layout.html.hbs",
    "email/brand.html.hbs",
    "email/answers.html.hbs",
    "email/survey_invitation/subject.en.txt.hbs",
    "email/survey_invitation/subject.fr.txt.hbs",
    "email/survey_invitation/body.en.txt.hbs",
    "email/survey_invitation/body.fr.txt.hbs",
    "email/survey_invitation/body.en.html.hbs",
    "email/survey_invitation/body.fr.html.hbs",
    "email/alert/subject.en.txt.hbs",
    "email/alert/subject.fr.txt.hbs",
    "email/alert/body.en.txt.hbs",
    "email/alert/body.fr.txt.hbs",
    "email/alert/body.en.html.hbs",
    "email/alert/body.fr.html.hbs",
    "email/report/subject.en.txt.hbs",
    "email/report/subject.fr.txt.hbs",
    "email/report/body.en.txt.hbs",
    "email/report/body.fr.txt.hbs",
    "email/report/body.en.html.hbs",
    "email/report/body.fr.html.hbs",
    "email/rejected/subject.en.txt.hbs",
    "email/rejected/subject.fr.txt.hbs",
    "email/rejected/body.en.txt.hbs",
    "email/rejected/body.fr.txt.hbs",
    "email/rejected/body.en.html.hbs",
    "email/rejected/body.fr.html.hbs",
    "email/digest/subject.en.txt.hbs",
    "email/digest/subject.fr.txt.hbs",
    "email/digest/body.en.txt.hbs",
    "email/digest/body.fr.txt.hbs",
    "email/digest/body.en.html.hbs",
    "email/digest/body.fr.html.hbs",
    "page/page.css",
    "page/layout.hbs",
    "page/form.hbs",
    "page/errors.hbs",
    "page/foot.hbs",
    "page/survey.hbs",
    "page/thanks.hbs",
    "page/closed.hbs",
    "page/withdraw.hbs",
    "page/withdrawn.hbs",
    "page/unsubscribe.hbs",
    "page/unsubscribed.hbs",
    "page/message.hbs",
];

/// The parts of a mail, per language.
const PARTS: [(&str, &str); 3] = [("subject", "txt"), ("body", "txt"), ("body", "html")];

/// Where the layout of the mails takes the content.
const CONTENT: &str = "{{> content}}";

/// What the mails share, by the name under which they include it. It is put in before the styles are written into the elements.
const SHARED: [&str; 2] = ["brand", "answers"];

/// What the pages share: what is around each, what each form carries, what is wrong with one, and where to go from the last.
const PAGE_PARTS: [&str; 4] = ["layout", "form", "errors", "foot"];

/// One of [`MAILS`] or [`PAGES`].
pub struct Kind {
    /// The mail's folder, or the page's file without `.hbs`.
    pub name: &'static str,
    samples: fn(&Templates, &Locale, &Words) -> Vec<Rendered>,
}

impl Kind {
    const fn mail<V: View>() -> Self {
        Self { name: V::NAME, samples: sample_mail::<V> }
    }

    const fn page<V: View>() -> Self {
        Self { name: V::NAME, samples: sample_page::<V> }
    }
}

/// A template rendered with its sample.
#[derive(Debug)]
pub struct Rendered {
    /// A name for the file to write it to, such as `email/survey_invitation/body.fr.html`.
    pub name: String,
    /// The text, or what is wrong with the template.
    pub result: Result<String, TemplateError>,
}

/// A mail's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailTexts {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// What is wrong with a template, where, and what to do. Holds no value that was rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// The overriding file's path, or the built-in file's name below `templates/`.
    pub file: String,
    /// Counted from 1.
    pub line: Option<usize>,
    /// Counted from 1.
    pub column: Option<usize>,
    pub problem: String,
    pub help: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for position in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.help.is_empty() {
            write!(f, " ({})", self.help)?;
        }
        Ok(())
    }
}

/// A file as it was found.
struct Source {
    text: String,
    /// Where it lies, when it overrides a built-in one.
    path: Option<PathBuf>,
}

/// All templates, compiled, and the words.
pub struct Templates {
    html: Handlebars<'static>,
    text: Handlebars<'static>,
    words: BTreeMap<Locale, Words>,
    sources: BTreeMap<String, Source>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Templates({} files)", self.sources.len())
    }
}

impl Templates {
    /// Reads and compiles everything, and renders every mail and page once with its sample in each language.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(overrides: Option<&Path>) -> Result<Self, TemplateError> {
        let templates = Self::read(overrides)?;
        for rendered in templates.check() {
            rendered.result?;
        }
        Ok(templates)
    }

    /// As [`Templates::load`], without rendering the samples, so that [`Templates::check`] can name everything that is wrong with them.
    ///
    /// # Errors
    /// When a file is unknown or missing, cannot be read, or cannot be compiled.
    pub fn read(overrides: Option<&Path>) -> Result<Self, TemplateError> {
        let mut sources: BTreeMap<String, Source> = BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Source { text: (*text).to_owned(), path: None }))
            .collect();
        if let Some(folder) = overrides {
            read_folder(folder, folder, &mut sources)?;
        }
        let mut templates =
            Self { html: registry(true), text: registry(false), words: BTreeMap::new(), sources };
        templates.words = templates.read_words()?;
        templates.compile()?;
        Ok(templates)
    }

    /// The languages there are.
    pub fn locales(&self) -> impl Iterator<Item = &Locale> {
        self.words.keys()
    }

    /// The language for a reader: the wanted locale, else its language, else those of the shop, else English.
    pub fn language(&self, wanted: Option<&Locale>, shop: &Locale) -> (&Locale, &Words) {
        let exact = |locale: &Locale| self.words.get_key_value(locale);
        let language = |locale: &Locale| self.words.iter().find(|(l, _)| l.language() == locale.language());
        wanted
            .and_then(|locale| exact(locale).or_else(|| language(locale)))
            .or_else(|| exact(shop))
            .or_else(|| language(shop))
            .or_else(|| self.words.iter().find(|(l, _)| l.as_str() == "en"))
            .expect("English is built in and an override cannot remove it")
    }

    /// A mail in one of [`Templates::locales`].
    ///
    /// # Errors
    /// When the template asks for what its view does not have; after [`Templates::load`] only in branches the sample does not reach.
    pub fn mail<V: View>(&self, locale: &Locale, view: &V) -> Result<MailTexts, TemplateError> {
        let context = Context::wraps(view).map_err(|error| self.failed(&error, V::NAME))?;
        let render = |part: &str, kind: &str| {
            let name = part_name(V::NAME, part, locale, kind);
            let registry = if kind == "html" { &self.html } else { &self.text };
            registry.render_with_context(&name, &context).map_err(|error| {
                // The HTML was compiled inside the layout, with its styles written into it; the file as it stands knows the line.
                let as_written = self.html.render_with_context(&raw_name(&name), &context).err();
                self.failed(as_written.as_ref().filter(|_| kind == "html").unwrap_or(&error), &name)
            })
        };
        let subject = render("subject", "txt")?.trim().to_owned();
        if subject.is_empty() || subject.contains(char::is_control) {
            let name = part_name(V::NAME, "subject", locale, "txt");
            return Err(self.error(&name, None, "a subject is one line".to_owned(), ""));
        }
        Ok(MailTexts { subject, text: render("body", "txt")?, html: render("body", "html")? })
    }

    /// A page.
    ///
    /// # Errors
    /// As [`Templates::mail`].
    pub fn page<V: View>(&self, page: &Page<'_, V>) -> Result<String, TemplateError> {
        let name = format!("page/{}.hbs", V::NAME);
        self.html.render(&name, page).map_err(|error| self.failed(&error, &name))
    }

    /// The stylesheet of the pages.
    pub fn page_css(&self) -> &str {
        self.sources.get("page/page.css").map_or("", |source| &source.text)
    }

    /// Every mail and page with its sample in each language: the texts, or what is wrong with the template.
    pub fn check(&self) -> Vec<Rendered> {
        let each = |(locale, words): (&Locale, &Words)| {
            let kinds = MAILS.iter().chain(PAGES);
            kinds.flat_map(|kind| (kind.samples)(self, locale, words)).collect::<Vec<_>>()
        };
        self.words.iter().flat_map(each).collect()
    }

    fn read_words(&self) -> Result<BTreeMap<Locale, Words>, TemplateError> {
        let files =
            self.sources.iter().filter_map(|(name, source)| Some((name, words_locale(name)?, source)));
        let mut all = BTreeMap::new();
        for (name, locale, source) in files {
            let words: Words = toml::from_str(&source.text).map_err(|error| {
                let position = error.span().map(|span| position(&source.text, span.start));
                let help = "the built-in words.en.toml has every word";
                self.error(name, position, error.message().to_owned(), help)
            })?;
            let known = [("day", ""), ("month", ""), ("year", "")];
            words::fill(&words.date, &known).map_err(|unknown| {
                self.error(name, None, format!("{{{unknown}}} is not part of a date"), "")
            })?;
            words.digest.check().map_err(|unknown| {
                let help = "the built-in words.en.toml shows what can be put in";
                self.error(
                    name,
                    None,
                    format!("{{{unknown}}} cannot be put into this wording of [digest]"),
                    help,
                )
            })?;
            all.insert(locale, words);
        }
        // The choices' built-in words must be the same in every language, or a survey would fall back to a bare key in some.
        let english = all.iter().find(|(l, _)| l.as_str() == "en").map(|(_, w)| w.choices.clone());
        let keys = |choices: &BTreeMap<String, String>| choices.keys().cloned().collect::<BTreeSet<_>>();
        for (locale, words) in &all {
            let missing =
                english.as_ref().and_then(|en| keys(en).difference(&keys(&words.choices)).next().cloned());
            if let Some(missing) = missing {
                let problem = format!("the choice {missing:?} has no word");
                return Err(self.error(
                    &format!("words.{locale}.toml"),
                    None,
                    problem,
                    "add it under [choices]",
                ));
            }
        }
        Ok(all)
    }

    fn compile(&mut self) -> Result<(), TemplateError> {
        let sources = std::mem::take(&mut self.sources);
        let text_of = |name: &str| sources.get(name).map_or("", |source| source.text.as_str());
        let layout = text_of("email/layout.html.hbs");
        let mut compiled = Vec::new();
        for (name, source) in &sources {
            if let Some(shared) = SHARED.iter().find(|shared| shared_name(shared) == *name) {
                compiled.push((name.clone(), (*shared).to_owned(), source.text.clone(), true));
            } else if is_body(name) {
                compiled.push((name.clone(), raw_name(name), source.text.clone(), true));
            } else if let Some(part) = PAGE_PARTS.iter().find(|part| page_part_name(part) == *name) {
                compiled.push((name.clone(), (*part).to_owned(), source.text.clone(), true));
            } else if name.ends_with(".hbs") && name != "email/layout.html.hbs" {
                compiled.push((name.clone(), name.clone(), source.text.clone(), !name.ends_with(".txt.hbs")));
            }
        }
        let whole = |body: &str| {
            SHARED.iter().fold(layout.replace(CONTENT, body), |mail, shared| {
                mail.replace(&format!("{{{{> {shared}}}}}"), text_of(&shared_name(shared)).trim_end())
            })
        };
        let bodies: Vec<_> = sources
            .iter()
            .filter(|(name, _)| is_body(name))
            .map(|(name, source)| (name.clone(), whole(&source.text)))
            .collect();
        let layout_has_content = layout.matches(CONTENT).count() == 1;
        self.sources = sources;
        for (file, name, text, html) in compiled {
            let registry = if html { &mut self.html } else { &mut self.text };
            if let Err(error) = registry.register_template_string(&name, &text) {
                return Err(self.error(&file, error.pos(), error.reason().to_string(), ""));
            }
        }
        if !layout_has_content {
            let problem = format!("{CONTENT} must be there once, where the mail's text goes");
            return Err(self.error("email/layout.html.hbs", None, problem, ""));
        }
        for (name, body) in bodies {
            let inlined = inline::inline(&body)
                .map_err(|problem| self.error(&name, None, problem, "or the layout is wrong there"))?;
            if let Err(error) = self.html.register_template_string(&name, &inlined) {
                return Err(self.error("email/layout.html.hbs", None, error.reason().to_string(), ""));
            }
        }
        self.all_there()
    }

    /// Every language has every mail, and every mail's language has its words.
    fn all_there(&self) -> Result<(), TemplateError> {
        let of_mails = self.sources.keys().filter_map(|name| part_locale(name));
        let locales: BTreeSet<Locale> = of_mails.chain(self.words.keys().cloned()).collect();
        for locale in &locales {
            let parts = MAILS
                .iter()
                .flat_map(|mail| PARTS.iter().map(|(part, kind)| part_name(mail.name, part, locale, kind)));
            for name in std::iter::once(format!("words.{locale}.toml")).chain(parts) {
                if !self.sources.contains_key(&name) {
                    let problem =
                        format!("is missing, although there are other files for {:?}", locale.as_str());
                    return Err(self.error(&name, None, problem, "a language needs all of its files"));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, error: &RenderError, rendered: &str) -> TemplateError {
        let named = error.template_name.as_deref().unwrap_or(rendered);
        let file = match named {
            part if PAGE_PARTS.contains(&part) => page_part_name(part),
            shared if SHARED.contains(&shared) => shared_name(shared),
            other => other.strip_prefix("raw:").unwrap_or(other).to_owned(),
        };
        let (problem, help) = match error.reason() {
            RenderErrorReason::MissingVariable(Some(name)) => {
                (format!("{name:?} is not known here"), "the built-in template shows what can be used")
            }
            other => (other.to_string(), ""),
        };
        self.error(&file, error.line_no.zip(error.column_no), problem, help)
    }

    fn error(
        &self,
        name: &str,
        position: Option<(usize, usize)>,
        problem: String,
        help: &str,
    ) -> TemplateError {
        let path = self.sources.get(name).and_then(|source| source.path.as_ref());
        TemplateError {
            file: path.map_or_else(|| format!("templates/{name}"), |path| path.display().to_string()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            problem,
            help: help.to_owned(),
        }
    }
}

/// Whether a survey's wording can be used: it may say `{{shop.name}}`, and nothing else that is not plain text.
///
/// # Errors
/// Says in words what is wrong.
pub fn check_wording(wording: &str) -> Result<(), String> {
    render_wording(wording, "Shop").map(drop)
}

/// A survey's wording with the shop's name put in.
///
/// # Errors
/// As [`check_wording`].
pub fn render_wording(wording: &str, shop_name: &str) -> Result<String, String> {
    const NAME: &str = "{{shop.name}}";
    if !wording.contains("{{") {
        return Ok(wording.to_owned());
    }
    // Every mail and page has wordings in it. Most of them are the shop's name in plain text, which takes no template.
    if !wording.replace(NAME, "").contains(['{', '}', '\\']) {
        return Ok(wording.replace(NAME, shop_name));
    }
    // A registry takes longer to make than one of them to fill.
    static REGISTRY: LazyLock<Handlebars<'static>> = LazyLock::new(|| registry(false));
    let values = serde_json::json!({ "shop": { "name": shop_name } });
    REGISTRY.render_template(wording, &values).map_err(|error| match error.reason() {
        RenderErrorReason::MissingVariable(Some(name)) => {
            format!("{name:?} is not known here; a wording can use {{{{shop.name}}}}")
        }
        RenderErrorReason::TemplateError(error) => error.reason().to_string(),
        other => other.to_string(),
    })
}

fn registry(html: bool) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    if !html {
        registry.register_escape_fn(handlebars::no_escape);
    }
    registry.register_helper("fill", Box::new(Fill));
    registry
}

/// `{{fill words.closed_text order=page.order}}`: puts values where the wording says `{order}`.
struct Fill;

impl HelperDef for Fill {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let wording = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("fill", 0))?;
        let wording = wording.value().as_str().ok_or(RenderErrorReason::InvalidParamType("wording"))?;
        let mut values = Vec::new();
        for (name, value) in helper.hash() {
            if value.is_value_missing() {
                return Err(RenderErrorReason::MissingVariable(value.relative_path().cloned()).into());
            }
            values.push((*name, value.render()));
        }
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let filled = words::fill(wording, &values).map_err(|name| {
            RenderErrorReason::Other(format!("the wording uses {{{name}}}, which has no value here"))
        })?;
        Ok(ScopedJson::Derived(filled.into()))
    }
}

fn sample_mail<V: View>(templates: &Templates, locale: &Locale, words: &Words) -> Vec<Rendered> {
    let rendered = templates.mail(locale, &V::sample(locale, words));
    // The others only have to render; what is looked at is the sample.
    let others = V::other_samples(locale, words);
    let rendered = others.iter().fold(rendered, |rendered, other| {
        rendered.and_then(|texts| templates.mail(locale, other).map(|_| texts))
    });
    let part = |part: &str, kind: &str, text: fn(&MailTexts) -> &String| Rendered {
        name: part_name(V::NAME, part, locale, kind).trim_end_matches(".hbs").to_owned(),
        result: rendered.as_ref().map(|texts| text(texts).clone()).map_err(Clone::clone),
    };
    match &rendered {
        Ok(_) => vec![
            part("subject", "txt", |texts| &texts.subject),
            part("body", "txt", |texts| &texts.text),
            part("body", "html", |texts| &texts.html),
        ],
        Err(_) => vec![part("body", "txt", |texts| &texts.text)],
    }
}

fn sample_page<V: View>(templates: &Templates, locale: &Locale, words: &Words) -> Vec<Rendered> {
    let result = templates.page(&Page::sample(locale, words, &V::sample(locale, words)));
    // The others only have to render; what is looked at is the sample.
    let others = V::other_samples(locale, words);
    let result = others.iter().fold(result, |result, other| {
        result.and_then(|html| templates.page(&Page::sample(locale, words, other)).map(|_| html))
    });
    vec![Rendered { name: format!("page/{}.{locale}.html", V::NAME), result }]
}

fn part_name(mail: &str, part: &str, locale: &Locale, kind: &str) -> String {
    format!("email/{mail}/{part}.{locale}.{kind}.hbs")
}

/// The file of what mails share.
fn shared_name(shared: &str) -> String {
    format!("email/{shared}.html.hbs")
}

/// The file of what pages share.
fn page_part_name(part: &str) -> String {
    format!("page/{part}.hbs")
}

/// Whether this file is the HTML of a mail, that goes into the layout.
fn is_body(name: &str) -> bool {
    name.ends_with(".html.hbs")
        && name != "email/layout.html.hbs"
        && !SHARED.iter().any(|shared| shared_name(shared) == name)
}

/// Under which the HTML of a mail is compiled as it was written, without layout and styles.
fn raw_name(name: &str) -> String {
    format!("raw:{name}")
}

/// Of which language the words in this file are.
fn words_locale(name: &str) -> Option<Locale> {
    let locale = Locale::parse(name.strip_prefix("words.")?.strip_suffix(".toml")?).ok()?;
    (format!("words.{locale}.toml") == name).then_some(locale)
}

/// Of which language the part of a mail in this file is.
fn part_locale(name: &str) -> Option<Locale> {
    let (mail, file) = name.strip_prefix("email/")?.split_once('/')?;
    let locale = Locale::parse(file.split('.').nth(1)?).ok()?;
    let known = MAILS.iter().any(|kind| kind.name == mail)
        && PARTS.iter().any(|(part, kind)| part_name(mail, part, &locale, kind) == name);
    known.then_some(locale)
}

/// Reads the overriding files below a folder.
fn read_folder(
    root: &Path,
    folder: &Path,
    sources: &mut BTreeMap<String, Source>,
) -> Result<(), TemplateError> {
    let error = |path: &Path, problem: String, help: String| TemplateError {
        file: path.display().to_string(),
        line: None,
        column: None,
        problem,
        help,
    };
    let unreadable =
        |source: std::io::Error| error(folder, format!("cannot be read: {source}"), String::new());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        // What editors and file managers leave behind is not meant for us.
        let file_name = entry.file_name();
        if file_name.as_encoded_bytes().starts_with(b".") || file_name.as_encoded_bytes().ends_with(b"~") {
            continue;
        }
        if path.is_dir() {
            read_folder(root, &path, sources)?;
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let name =
            relative.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        if !sources.contains_key(&name) && words_locale(&name).is_none() && part_locale(&name).is_none() {
            let near = did_you_mean(&name, sources.keys().map(String::as_str)).unwrap_or_default();
            return Err(error(&path, "overrides nothing".to_owned(), near));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| error(&path, format!("cannot be read: {source}"), String::new()))?;
        sources.insert(name, Source { text, path: Some(path) });
    }
    Ok(())
}

/// Anything that can be rendered strictly, for tests of a single template.
#[cfg(test)]
fn render_strictly(template: &str, value: &serde_json::Value) -> Result<String, String> {
    registry(true).render_template(template, value).map_err(|error| error.reason().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locale(text: &str) -> Locale {
        Locale::parse(text).unwrap()
    }

    fn overridden(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Templates::load(Some(folder.path()))
    }

    #[test]
    fn every_built_in_template_renders_in_every_language() {
        let templates = Templates::load(None).unwrap();
        assert_eq!(templates.locales().map(Locale::as_str).collect::<Vec<_>>(), ["en", "fr"]);
        let rendered = templates.check();
        assert_eq!(rendered.len(), 2 * (3 * MAILS.len() + PAGES.len()));
        for Rendered { name, result } in rendered {
            let text = result.unwrap();
            assert!(!text.contains("{{") && !text.contains("hbs0"), "{name}:\n{text}");
        }
    }

    #[test]
    fn every_file_in_the_folder_is_compiled_in() {
        fn walk(folder: &Path, root: &Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, names);
                } else {
                    names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut on_disk = Vec::new();
        walk(&root, &root, &mut on_disk);
        // What is for the shop itself, or goes out beside a file, is no mail and no page of customers; it is compiled in where it is used.
        on_disk.retain(|name| {
            !["report/", "exports/", "jobs/", "notice/"].iter().any(|folder| name.starts_with(folder))
        });
        on_disk.sort();
        let mut compiled_in: Vec<_> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        compiled_in.sort();
        assert_eq!(on_disk, compiled_in);
    }

    #[test]
    fn nothing_is_put_into_a_page_unescaped() {
        for (name, text) in BUILT_IN.iter().filter(|(name, _)| name.ends_with(".hbs")) {
            assert!(!text.contains("{{{") && !text.contains("{{&"), "{name}");
        }
        let hostile = serde_json::json!({ "words": { "a": "<b>{x}" }, "x": "<script>" });
        let filled = render_strictly("{{fill words.a x=x}}", &hostile).unwrap();
        assert_eq!(filled, "&lt;b&gt;&lt;script&gt;");
        assert!(render_strictly("{{fill words.a x=y}}", &hostile).is_err());
        assert!(render_strictly("{{fill words.a}}", &hostile).is_err());
    }

    #[test]
    fn names_are_unique() {
        for kinds in [MAILS, PAGES] {
            let names: BTreeSet<_> = kinds.iter().map(|kind| kind.name).collect();
            assert_eq!(names.len(), kinds.len());
        }
    }

    #[test]
    fn the_language_is_the_nearest_there_is() {
        let templates = Templates::load(None).unwrap();
        let found = |wanted: Option<&str>, shop: &str| {
            let wanted = wanted.map(locale);
            templates.language(wanted.as_ref(), &locale(shop)).0.to_string()
        };
        assert_eq!(found(Some("fr"), "en"), "fr");
        assert_eq!(found(Some("fr-CA"), "en"), "fr");
        assert_eq!(found(Some("de"), "fr-BE"), "fr");
        assert_eq!(found(None, "fr"), "fr");
        assert_eq!(found(Some("de"), "it"), "en");
    }

    #[test]
    fn mistakes_name_file_line_and_column() {
        let body = "email/survey_invitation/body.fr.html.hbs";
        let error = overridden(&[(body, "<p>\n  {{first_nam}}</p>")]).unwrap_err();
        assert!(error.file.ends_with(body), "{error}");
        assert_eq!((error.line, error.column), (Some(2), Some(3)), "{error}");
        assert!(error.problem.contains("first_nam"), "{error}");

        let error = overridden(&[("page/thanks.hbs", "\n{{#if page.unhappy}}")]).unwrap_err();
        assert!(error.line.is_some() && error.file.ends_with("page/thanks.hbs"), "{error}");

        let error = overridden(&[("page/thank.hbs", "")]).unwrap_err();
        assert!(error.to_string().contains("did you mean `page/thanks.hbs`?"), "{error}");

        let words = BUILT_IN.iter().find(|(name, _)| *name == "words.fr.toml").unwrap().1;
        let error = overridden(&[("words.fr.toml", &words.replace("yes = ", "yess = "))]).unwrap_err();
        assert!(error.problem.contains("yess"), "{error}");
        assert!(error.line.is_some(), "{error}");
        let error = overridden(&[("words.fr.toml", &words.replace("{order} du {date}", "{order} du {dat}"))]);
        assert!(error.unwrap_err().problem.contains("{dat}"));
    }

    /// All files of a language, as they are in English.
    fn language(locale: &str) -> Vec<(String, &'static str)> {
        let of = |name: &str| BUILT_IN.iter().find(|(n, _)| *n == name).unwrap().1;
        let parts = MAILS.iter().flat_map(|mail| {
            PARTS.map(|(part, kind)| {
                let name = |locale: &str| part_name(mail.name, part, &self::locale(locale), kind);
                (name(locale), of(&name("en")))
            })
        });
        std::iter::once((format!("words.{locale}.toml"), of("words.en.toml"))).chain(parts).collect()
    }

    fn with_language(files: &[(String, &str)]) -> Result<Templates, TemplateError> {
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        overridden(&files)
    }

    #[test]
    fn a_language_is_added_with_all_of_its_files_or_not_at_all() {
        let mut files = language("de");
        assert_eq!(with_language(&files).unwrap().locales().count(), 3);
        let (missing, _) = files.pop().unwrap();
        assert!(with_language(&files).unwrap_err().file.ends_with(&missing));
    }

    #[test]
    fn a_language_from_the_right_turns_mails_and_pages_around() {
        let templates = with_language(&language("ar")).unwrap();
        let rendered = templates.check();
        let html =
            |name: &str| rendered.iter().find(|r| r.name == name).unwrap().result.as_ref().unwrap().clone();
        let mail = html("email/survey_invitation/body.ar.html");
        for part in ["lang=\"ar\" dir=\"rtl\"", "align=\"right\"", "text-align: right", "padding-left: 12px"]
        {
            assert!(mail.contains(part), "no {part} in {mail}");
        }
        assert!(!mail.contains("align=\"left\"") && !mail.contains("text-align: left"), "{mail}");
        assert!(html("page/thanks.ar.html").contains("<html lang=\"ar\" dir=\"rtl\">"));
        assert!(html("email/survey_invitation/body.fr.html").contains("padding-right: 12px"));
    }

    #[test]
    fn a_mistake_in_what_mails_share_names_its_file() {
        let error =
            overridden(&[("email/answers.html.hbs", "\n{{#each question.answer}}x{{/each}}")]).unwrap_err();
        assert!(error.file.ends_with("email/answers.html.hbs") && error.line == Some(2), "{error}");
        let error = overridden(&[("email/brand.html.hbs", "<p>{{shop.nam}}</p>")]).unwrap_err();
        assert!(
            error.file.ends_with("email/brand.html.hbs") && error.problem.contains("shop.nam"),
            "{error}"
        );
    }

    #[test]
    fn wordings_know_the_shop_and_nothing_else() {
        assert_eq!(render_wording("A {{shop.name}} <b>", "Dupont & fils").unwrap(), "A Dupont & fils <b>");
        assert_eq!(render_wording("{{ shop.name }}, {{shop.name}}", "A").unwrap(), "A, A");
        assert_eq!(
            render_wording("{{{shop.name}}}", "{{A}}").unwrap(),
            "{{A}}",
            "as the template language says"
        );
        assert_eq!(
            render_wording("\\{{shop.name}}", "A").unwrap(),
            "{{shop.name}}",
            "as the template language says"
        );
        assert!(check_wording("Plain").is_ok());
        assert!(check_wording("{{shop.nam}}").unwrap_err().contains("shop.nam"));
        assert!(check_wording("{{shop.name").is_err());
        assert!(check_wording("{{> page}}").is_err());
    }
}
