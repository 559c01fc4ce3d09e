//! `[[access]]`.

use std::path::Path;

use super::words::{check_key, secret, text};
use crate::config::problem::Problems;
use crate::config::{Access, AccessToken, Right, raw};
use crate::nearest;

/// Who may use the private pages. The token is not repeated in what is wrong with it.
pub(super) fn accesses(
    base: &Path,
    typed: &[raw::Access],
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Vec<Access> {
    let mut valid: Vec<Access> = Vec::new();
    for access in typed {
        let name = text(&access.name);
        check_key("access", name, access.name.span(), problems);
        if valid.iter().any(|other| other.name == name) {
            problems.add(access.name.span(), format!("the access {name:?} stands here twice"), None);
        }
        for shop in access.shops.iter().flatten() {
            if let Some(problem) = nearest::unknown("shop", text(shop), shop_keys.iter().copied()) {
                problems.add(shop.span(), problem, None);
            }
        }
        if let (true, Some(shop)) =
            (access.allow.contains(&Right::Metrics), access.shops.iter().flatten().next())
        {
            problems.add(
                shop.span(),
                "the metrics are of the whole installation, not of some shops",
                Some("leave `shops` out, or make an access of its own for them".to_owned()),
            );
        }
        let Some(place) = access.token.as_ref().or(access.token_file.as_ref()) else {
            problems.add(access.name.span(), "an access needs a `token_file`", None);
            continue;
        };
        let token = secret("token", base, access.token.as_ref(), access.token_file.as_ref(), problems);
        let Some(token) = token else { continue };
        if token.chars().count() < AccessToken::SHORTEST {
            let help = "`openssl rand -hex 32` makes one";
            let problem = format!("a token has {} characters or more", AccessToken::SHORTEST);
            problems.add(place.span(), problem, Some(help.to_owned()));
        }
        let shops =
            access.shops.as_ref().map(|shops| shops.iter().map(|shop| text(shop).to_owned()).collect());
        valid.push(Access {
            name: name.to_owned(),
            token: AccessToken::new(&token),
            allow: access.allow.clone(),
            shops,
        });
    }
    valid
}
