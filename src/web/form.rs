//! What each of our forms carries besides its own fields: a sealed proof that it was fetched, and a field that nobody can see. The
//! template of a form includes them with `{{> form page.form}}`.

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};

use crate::mail::templates::views::FormView;
use crate::responses::classify::{Presented, Traces};
use crate::responses::hits::AgentFamily;
use crate::responses::submission::Fields;
use crate::token::{Form, Occasion, Proof, Tokens};
use crate::types::{InvitationId, ShopId};

/// The sealed proof, in the form.
const PROOF: &str = "form.proof";
/// The field nobody can see. Not a name that browsers fill in by themselves.
const TRAP: &str = "form.more";
/// The box that a person ticks who is asked once more.
const PERSON: &str = "form.person";

/// A form for one invitation.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormOf {
    pub form: Form,
    pub shop: ShopId,
    pub invitation: InvitationId,
}

impl FormOf {
    /// What a form carries that is made now.
    pub(super) fn view(&self, tokens: &Tokens, occasion: Occasion, now: DateTime<Utc>) -> FormView {
        self.sealed(tokens, &Proof::new(occasion, now))
    }

    /// What a form carries that comes back because something in it is missing or wrong. It stays the one that was fetched first: whoever
    /// corrects a mistake quickly is still a person.
    pub(super) fn view_again(&self, tokens: &Tokens, sent: &Traces) -> FormView {
        match sent.proof {
            Presented::Ours(proof) => self.sealed(tokens, &proof),
            Presented::Missing | Presented::Foreign => self.view(tokens, Occasion::Visit, sent.sent_at),
        }
    }

    /// What the fields and the headers of a form that was sent say about who sent it.
    pub(super) fn traces(
        &self,
        tokens: &Tokens,
        fields: &Fields,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Traces {
        let proof = match fields.get(PROOF).filter(|proof| !proof.is_empty()) {
            None => Presented::Missing,
            Some(proof) => tokens
                .verify_form(self.form, self.shop, self.invitation, proof)
                .map_or(Presented::Foreign, Presented::Ours),
        };
        Traces {
            form: self.form,
            proof,
            confirmed: fields.get(PERSON) == Some("yes"),
            trapped: fields.get(TRAP).is_some_and(|value| !value.is_empty()),
            agent: agent(headers),
            sent_at: now,
        }
    }

    fn sealed(&self, tokens: &Tokens, proof: &Proof) -> FormView {
        FormView {
            proof: tokens.issue_form(self.form, self.shop, self.invitation, proof),
            once_more: proof.occasion == Occasion::OnceMore,
            // The withdrawal has such a box of its own, always.
            asks_person: proof.occasion == Occasion::OnceMore && self.form != Form::Withdrawal,
        }
    }
}

/// What kind of program sends these headers.
pub(super) fn agent(headers: &HeaderMap) -> AgentFamily {
    AgentFamily::of(headers.get(header::USER_AGENT).map(|agent| agent.to_str().unwrap_or("?")))
}
