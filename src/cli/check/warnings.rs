//! What works, and may not work well.

use crate::config::{Config, Shop, Transport};
use crate::mail::templates::Templates;
use crate::survey::{QuestionKind, Survey, Texts};

/// What a customer, a relay or a large mail provider may take offence at.
pub(super) fn all(config: &Config, templates: &Templates) -> Vec<String> {
    let mut warnings: Vec<String> =
        config.shops.iter().filter_map(|shop| unspoken(shop, templates)).collect();
    for shop in &config.shops {
        let surveys = config.surveys.iter().filter(|survey| survey.is_for(&shop.key));
        warnings.extend(surveys.flat_map(|survey| unworded(shop, survey, templates)));
    }
    warnings.extend(config.exposed());
    warnings.extend(untold(config));
    warnings.extend(unmoderated(config));
    if matches!(config.mail.transport, Transport::File) {
        return warnings;
    }
    for shop in &config.shops {
        let missing: Vec<_> =
            [("privacy_url", shop.privacy_url.is_none()), ("address", shop.address.is_none())]
                .into_iter()
                .filter_map(|(key, is_missing)| is_missing.then_some(key))
                .collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "the shop {} has no {}: mails and pages then do not say what becomes of the answers (GDPR, article 13) or who writes",
                shop.key,
                missing.join(" and no ")
            ));
        }
    }
    if !config.app.base_url.starts_with("https://") {
        warnings.push(
            "[app] base_url is not https: mail providers want the one-click unsubscription of RFC 8058 behind https, and do not show it \
             otherwise"
                .to_owned(),
        );
    }
    let return_path = config.mail.return_path.as_deref().and_then(|path| path.rsplit_once('@'));
    if let Some((_, bounces)) = return_path {
        for shop in &config.shops {
            let from = shop.from.email.domain();
            if organisation(bounces) != organisation(from) {
                warnings.push(format!(
                    "[mail] return_path is at {bounces}, and the shop {} writes from {from}: SPF then speaks for another domain than \
                     the one customers see, so that DMARC rests on the DKIM signature alone",
                    shop.key
                ));
            }
        }
    }
    warnings
}

/// Alerts that nobody looks for, and people who are told of none.
fn untold(config: &Config) -> Option<String> {
    let tells = !config.notify.to.is_empty() || config.notify.webhook.is_some();
    let looks =
        config.jobs.iter().any(|job| job.kind == "compute_metrics" && job.schedule.is_some() && job.enabled);
    if config.alerts.is_empty() {
        return tells.then(|| "[notify] says whom to tell, and there is no [[alert]] to tell of".to_owned());
    }
    (!looks).then(|| {
        "there is an [[alert]], and no job of the kind compute_metrics with a schedule, which would look for it"
            .to_owned()
    })
}

/// Authors who would never be told why their words were rejected.
fn unmoderated(config: &Config) -> Option<String> {
    let asks = config.surveys.iter().any(|survey| {
        survey.questionnaire.questions.iter().any(|q| matches!(q.kind, QuestionKind::Consent { .. }))
    });
    let tells = config
        .jobs
        .iter()
        .any(|job| job.kind == "moderate_testimonials" && job.schedule.is_some() && job.enabled);
    (asks && !tells).then(|| {
        "a survey asks for the consent to publish, and no job of the kind moderate_testimonials has a schedule: whose words are rejected \
         is not told why (French consumer code, D111-19)"
            .to_owned()
    })
}

/// What customers read instead of the language of a shop for which there are no templates.
fn unspoken(shop: &Shop, templates: &Templates) -> Option<String> {
    let (instead, _) = templates.language(None, &shop.locale);
    (instead.language() != shop.locale.language()).then(|| {
        let (key, locale) = (&shop.key, &shop.locale);
        format!(
            "the shop {key} speaks {locale:?}, and there are no mails and pages in it: whoever's order names no other language reads them \
             in {instead:?}. A language is words.{locale}.toml and the files of each mail, in [app] templates_dir",
            locale = locale.as_str(),
            instead = instead.as_str(),
        )
    })
}

/// What a survey asks in another language than the one a shop speaks, because nobody has worded it.
fn unworded(shop: &Shop, survey: &Survey, templates: &Templates) -> Vec<String> {
    let (_, words) = templates.language(None, &shop.locale);
    let is_worded = |texts: &Texts| texts.0.keys().any(|l| l.language() == shop.locale.language());
    let mut parts = Vec::new();
    if survey.questionnaire.intro.as_ref().is_some_and(|intro| !is_worded(intro)) {
        parts.push("its intro".to_owned());
    }
    for question in &survey.questionnaire.questions {
        if !is_worded(&question.text) {
            parts.push(format!("the question {:?}", question.key));
        }
        let QuestionKind::Choice { choices } = &question.kind else { continue };
        let unworded = choices.iter().filter(|choice| match &choice.text {
            Some(texts) => !is_worded(texts),
            None => !words.choices.contains_key(&choice.key),
        });
        parts.extend(unworded.map(|choice| format!("the choice {:?} of {:?}", choice.key, question.key)));
    }
    let (key, shop, locale) = (&survey.key, &shop.key, shop.locale.as_str());
    let sentence = |part| {
        format!(
            "the survey {key} has no wording in {locale:?}, which the shop {shop} speaks, for {part}: it is read in another language"
        )
    };
    parts.into_iter().map(sentence).collect()
}

/// The part of a domain that somebody registered, as far as its shape tells: `shop.example` of `mail.shop.example`, `shop.co.uk` of
/// `mail.shop.co.uk`. (The list of public suffixes would know better, and changes weekly.)
fn organisation(domain: &str) -> String {
    let domain = domain.to_lowercase();
    let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
    let n = match labels[..] {
        [.., second, top] if top.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    };
    labels[labels.len().saturating_sub(n)..].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organisation_of_a_domain() {
        for (domain, expected) in [
            ("shop.example", "shop.example"),
            ("mail.Shop.example", "shop.example"),
            ("mail.shop.co.uk", "shop.co.uk"),
            ("shop.fr", "shop.fr"),
            ("a.b.shop.fr", "shop.fr"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(organisation(domain), expected, "{domain}");
        }
    }
}
