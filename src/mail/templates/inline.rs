//! Mail programs drop stylesheets, so the rules of a mail's `<style>` are written into its elements. This happens once, when the
//! template is read, and not once per mail: while the HTML is worked on, a plain word stands in for every `{{…}}`.
//!
//! A word can stand in a text, in the value of an attribute and in the value of a style. It cannot stand for an attribute, nor between
//! the parts of a table, where HTML allows no text; such templates are refused.

use css_inline::CSSInliner;

/// The template with its styles in the elements; `@media` rules stay in a `<style>`.
///
/// # Errors
/// Says in words what stands where it cannot.
pub fn inline(template: &str) -> Result<String, String> {
    let (html, tags) = replace_tags(template)?;
    let inlined = CSSInliner::options()
        .keep_at_rules(true)
        .load_remote_stylesheets(false)
        .build()
        .inline(&html)
        .map_err(|error| format!("the styles cannot be written into the elements: {error}"))?;
    // Every tag outside the styles must still be where it was: after as many elements, and there once. (Inside the styles it may now
    // be there several times, or not at all.)
    let in_style = style_ranges(&html);
    for (n, tag) in tags.iter().enumerate() {
        let word = stand_in(n);
        let Some(at) = html.find(&word).filter(|at| !in_style.iter().any(|range| range.contains(at))) else {
            continue;
        };
        let found = inlined.find(&word).filter(|found| {
            inlined.matches(&word).count() == 1
                && elements_before(&html[..at]) == elements_before(&inlined[..*found])
        });
        if found.is_none() {
            return Err(format!(
                "{tag} stands where HTML allows no text; put it into an element or into the value of an attribute"
            ));
        }
    }
    Ok(put_back(&inlined, &tags))
}

/// What stands in for the nth tag: lower case, because HTML lowers names, and a word in CSS, too.
fn stand_in(n: usize) -> String {
    format!("hbs{n:04}x")
}

/// Takes the `{{…}}` out.
fn replace_tags(template: &str) -> Result<(String, Vec<&str>), String> {
    let mut html = String::with_capacity(template.len());
    let mut tags = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        html.push_str(&rest[..start]);
        let end = if rest[start..].starts_with("{{!--") {
            "--}}"
        } else if rest[start..].starts_with("{{{") {
            "}}}"
        } else {
            "}}"
        };
        let length = rest[start..].find(end).ok_or("a {{ is never closed")? + end.len();
        html.push_str(&stand_in(tags.len()));
        tags.push(&rest[start..start + length]);
        rest = &rest[start + length..];
    }
    html.push_str(rest);
    Ok((html, tags))
}

/// Puts the `{{…}}` back, all in one pass.
fn put_back(html: &str, tags: &[&str]) -> String {
    let mut template = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find("hbs") {
        template.push_str(&rest[..start]);
        let number = rest.get(start + 3..start + 7).and_then(|digits| digits.parse::<usize>().ok());
        match number.and_then(|n| tags.get(n)).filter(|_| rest[start + 7..].starts_with('x')) {
            Some(tag) => {
                template.push_str(tag);
                rest = &rest[start + 8..];
            }
            None => {
                template.push_str("hbs");
                rest = &rest[start + 3..];
            }
        }
    }
    template.push_str(rest);
    template
}

/// How many elements have begun, but for those that a parser adds or moves by itself.
fn elements_before(html: &str) -> usize {
    let own = ["<html", "<head", "<body", "<tbody", "<style"];
    html.match_indices('<')
        .map(|(at, _)| &html[at..])
        .filter(|rest| rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter(|rest| !own.iter().any(|name| rest.starts_with(name)))
        .count()
}

fn style_ranges(html: &str) -> Vec<std::ops::Range<usize>> {
    html.match_indices("<style")
        .map(|(start, _)| start..html[start..].find("</style>").map_or(html.len(), |length| start + length))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_go_into_the_elements_and_tags_stay_in_place() {
        let template = "<html><head><style>a { color: {{link}}; } @media (max-width: 1px) { a { color: red } }</style></head>\
                        <body>{{#each answers}}<a href=\"{{url}}?a=1\">{{label}} &amp; {{!-- a > b --}}hbs</a>{{/each}}</body></html>";
        let inlined = inline(template).unwrap();
        assert!(
            inlined.contains(
                r#"{{#each answers}}<a href="{{url}}?a=1" style="color: {{link}};">{{label}} &amp; {{!-- a > b --}}hbs</a>{{/each}}"#
            ),
            "{inlined}"
        );
        assert!(inlined.contains("@media (max-width: 1px)"), "{inlined}");
    }

    #[test]
    fn a_tag_where_html_allows_no_text_is_refused() {
        for template in [
            "<table>{{#each rows}}<tr><td>x</td></tr>{{/each}}</table>",
            "<p>{{never closed</p>",
            "<body><i>before {{a}}<table>{{b}}<tr><td>{{c}}</td></tr></table></i></body>",
        ] {
            assert!(inline(template).is_err(), "{template}");
        }
    }
}
