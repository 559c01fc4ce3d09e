//! Taking words back from publication: a page that asks, the form's POST that does it, and the same page afterwards.
//!
//! The link is the survey's, and it leads here for as long as there are words of its customer, whatever has expired and whether or not
//! the survey is still in jobs.toml: consent can be taken back at any time. Giving it is a tick and a button, so taking it back is a tick
//! and a button; a program that sends the form as it finds it has not ticked anything, and what looks like a program is asked once more.

use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::form::FormOf;
use super::survey::{Visit, page_title, see_other};
use super::unsubscribe::is_suspect;
use super::{Refusal, Web, detached};
use crate::config::Shop;
use crate::db::again::again;
use crate::mail::templates::views::{ClosedPage, ErrorView, FormView, WithdrawPage, WithdrawnPage};
use crate::mail::templates::words::Words;
use crate::responses::store::{self, Invited};
use crate::responses::submission::Fields;
use crate::testimonials::withdrawal::{self, Standing};
use crate::token::{Form, Occasion, Purpose};
use crate::types::Locale;

/// The box to tick.
const SURE: &str = "sure";

/// `GET /s/{token}/withdraw`
pub(super) async fn ask(State(web): State<Web>, Path(token): Path<String>) -> Result<Response, Refusal> {
    detached(async move {
        let bearer = Bearer::open(&web, token).await?;
        if bearer.standing == Standing::Offered {
            let form = bearer.form_of().view(&web.context.tokens, Occasion::Visit, bearer.now);
            return bearer.ask(&web, StatusCode::OK, form, false);
        }
        bearer.done(&web).await
    })
    .await
}

/// `POST /s/{token}/withdraw`
pub(super) async fn confirm(
    State(web): State<Web>,
    Path(token): Path<String>,
    headers: HeaderMap,
    form: Result<axum::Form<Vec<(String, String)>>, FormRejection>,
) -> Result<Response, Refusal> {
    let fields = match form {
        Ok(axum::Form(pairs)) => Fields::new(pairs),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Refusal::TooLarge);
        }
        Err(_) => Fields::default(),
    };
    detached(async move {
        let bearer = Bearer::open(&web, token).await?;
        if bearer.standing != Standing::Offered {
            return bearer.done(&web).await;
        }
        let tokens = &web.context.tokens;
        let form = bearer.form_of();
        let traces = form.traces(tokens, &fields, &headers, bearer.now);
        if fields.get(SURE) != Some("yes") {
            let form = form.view_again(tokens, &traces);
            return bearer.ask(&web, StatusCode::UNPROCESSABLE_ENTITY, form, true);
        }
        let mut conn = web.context.pool.acquire().await?;
        if is_suspect(&mut conn, &bearer.invited, &traces).await? {
            let form = form.view(tokens, Occasion::OnceMore, bearer.now);
            return bearer.ask(&web, StatusCode::OK, form, false);
        }
        drop(conn);
        again(|| async {
            let mut conn = web.context.pool.acquire().await?;
            Ok(withdrawal::withdraw(&mut conn, &bearer.invited, bearer.now).await?)
        })
        .await?;
        // Elsewhere, so that a reload does not send it again.
        Ok(see_other(&bearer.path(&web, "/withdraw")))
    })
    .await
}

/// What the link of a survey that is over leads to: what can still be done about the words, if there are any.
pub(super) async fn closed(web: &Web, token: String) -> Result<Response, Refusal> {
    let bearer = Bearer::open(web, token).await?;
    let withdraw = match bearer.standing {
        Standing::Nothing => return Err(Refusal::Gone),
        Standing::Offered => Some(bearer.path(web, "/withdraw")),
        Standing::Withdrawn => None,
    };
    let (locale, words) = bearer.language(web);
    let view = ClosedPage { order: bearer.invited.external_id.clone(), reason: None, withdraw };
    Ok(web.pages.response(StatusCode::OK, &bearer.shop, locale, words, &view)?)
}

/// Who holds a link, whether or not it can still be answered.
struct Bearer {
    token: String,
    shop: Shop,
    invited: Invited,
    standing: Standing,
    now: DateTime<Utc>,
}

impl Bearer {
    async fn open(web: &Web, token: String) -> Result<Self, Refusal> {
        let context = &web.context;
        let (shop_id, invitation) = context.tokens.verify(Purpose::Survey, &token).ok_or(Refusal::Gone)?;
        let shop = context.shops.get(shop_id).ok_or(Refusal::Gone)?.clone();
        let mut conn = context.pool.acquire().await?;
        let conn: &mut PgConnection = &mut conn;
        let invited = store::invited(conn, shop_id, invitation).await?.ok_or(Refusal::Gone)?;
        let standing = withdrawal::standing(conn, &invited).await?;
        Ok(Self { token, shop, invited, standing, now: context.clock.now() })
    }

    fn language<'a>(&self, web: &'a Web) -> (&'a Locale, &'a Words) {
        web.pages.language(self.invited.locale().as_ref(), &self.shop)
    }

    fn path(&self, web: &Web, rest: &str) -> String {
        format!("{}/s/{}{rest}", web.pages.prefix, self.token)
    }

    fn form_of(&self) -> FormOf {
        FormOf { form: Form::Withdrawal, shop: self.invited.shop, invitation: self.invited.invitation }
    }

    /// The page that asks. Its box is never ticked when it comes, so that whoever sends it has ticked it.
    fn ask(
        &self,
        web: &Web,
        status: StatusCode,
        form: FormView,
        is_unsure: bool,
    ) -> Result<Response, Refusal> {
        let (locale, words) = self.language(web);
        let error =
            is_unsure.then(|| ErrorView { field: SURE.to_owned(), label: words.withdraw_sure.clone() });
        let errors: Vec<_> = error.into_iter().collect();
        let view = WithdrawPage {
            title: page_title(&words.withdraw_title, &errors, words),
            action: self.path(web, "/withdraw"),
            form,
            order: self.invited.external_id.clone(),
            survey: self.path(web, ""),
            errors,
        };
        Ok(web.pages.response(status, &self.shop, locale, words, &view)?)
    }

    /// The page that says how things stand when there is nothing to ask.
    async fn done(self, web: &Web) -> Result<Response, Refusal> {
        let visit = match Visit::open(web, self.token.clone()).await {
            Ok(visit) => Some(visit),
            // A link that is over and has nothing behind it looks like any other that is.
            Err(Refusal::Gone) if self.standing == Standing::Nothing => return Err(Refusal::Gone),
            Err(Refusal::Gone) => None,
            Err(refusal) => return Err(refusal),
        };
        let (locale, words) = self.language(web);
        let withdrawn = self.standing == Standing::Withdrawn;
        let title = if withdrawn { &words.withdrawn_title } else { &words.nothing_title };
        let view = WithdrawnPage {
            title: title.clone(),
            order: self.invited.external_id.clone(),
            withdrawn,
            change_until: visit.filter(|_| withdrawn).and_then(|visit| visit.changeable(&web.pages)),
            survey: self.path(web, ""),
        };
        Ok(web.pages.response(StatusCode::OK, &self.shop, locale, words, &view)?)
    }
}
