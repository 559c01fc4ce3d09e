//! The survey's form: the body of a POST becomes answers or errors.

use afterword::responses::Value;
use afterword::responses::submission::{self, Fields, MAX_DISPLAY_NAME, name_field};
use afterword::survey::{QuestionKind, Questionnaire};
use axum::body::Body;
use axum::extract::{Form, FromRequest as _};
use axum::http::Request;
use futures_util::FutureExt as _;

/// Each kind of question, and follow-ups of choices and scores.
const QUESTIONNAIRE: &str = r#"{ "questions": [
    { "key": "recommend", "type": "recommend", "required": true, "in_mail": true, "when": null, "text": {} },
    { "key": "nps", "type": "nps", "required": false, "in_mail": false, "when": null, "text": {} },
    { "key": "overall", "type": "rating", "required": false, "in_mail": false, "when": null, "text": {} },
    { "key": "topic", "type": "choice", "choices": [ { "key": "delivery", "text": null }, { "key": "other", "text": null } ],
      "required": true, "in_mail": false, "when": { "question": "recommend", "answers": ["no"] }, "text": {} },
    { "key": "why", "type": "text", "max_length": 40, "required": false, "in_mail": false,
      "when": { "question": "overall", "answers": ["1", "2"] }, "text": {} },
    { "key": "comment", "type": "text", "max_length": 4000, "required": false, "in_mail": false, "when": null, "text": {} },
    { "key": "publish", "type": "consent", "version": "1", "required": false, "in_mail": false, "when": null, "text": {} } ] }"#;

pub fn run(body: &[u8]) {
    let request = Request::post("/")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_vec()))
        .unwrap();
    let form = Form::<Vec<(String, String)>>::from_request(request, &())
        .now_or_never()
        .expect("nothing to wait for");
    let Ok(Form(pairs)) = form else { return };
    let questionnaire: Questionnaire = serde_json::from_str(QUESTIONNAIRE).unwrap();
    let fields = Fields::new(pairs);
    let submission = match submission::read(&fields, &questionnaire) {
        Ok(submission) => submission,
        Err(errors) => {
            assert!(!errors.is_empty());
            for field in errors.keys() {
                let known = questionnaire
                    .questions
                    .iter()
                    .any(|question| *field == question.key || *field == name_field(&question.key));
                assert!(known, "{field:?} is no field");
            }
            return;
        }
    };
    let answer = |key: &str| {
        submission.answers.iter().find(|answer| answer.question == key).map(|answer| &answer.value)
    };
    assert!(answer("recommend").is_some(), "what is required is there");
    assert_eq!(answer("topic").is_some(), answer("recommend") == Some(&Value::Choice("no".to_owned())));
    assert!(answer("why").is_none() || matches!(answer("overall"), Some(Value::Score(1 | 2))));
    for given in &submission.answers {
        let question = questionnaire.question(&given.question).expect("a question of the questionnaire");
        match (&question.kind, &given.value) {
            (QuestionKind::Text { max_length }, Value::Text(text)) => {
                assert!(
                    text.chars().count() <= *max_length && !text.contains('\0') && !text.trim().is_empty()
                );
                assert_eq!(
                    fields.get(&given.question).unwrap().replace("\r\n", "\n"),
                    *text,
                    "as it was written"
                );
            }
            (kind, Value::Score(score)) => assert!(kind.scores().unwrap().contains(score)),
            (kind, Value::Choice(choice)) => {
                assert!(kind.scores().is_none() && kind.options().unwrap().contains(choice));
            }
            (kind, value) => panic!("{value:?} is no answer to {kind:?}"),
        }
    }
    let mut asked: Vec<&str> = submission.answers.iter().map(|given| given.question.as_str()).collect();
    asked.dedup();
    assert_eq!(asked.len(), submission.answers.len(), "one answer each");
    let name = submission.consent.and_then(|consent| consent.display_name);
    assert!(
        name.is_none_or(|name| !name.contains(char::is_control) && name.chars().count() <= MAX_DISPLAY_NAME)
    );
}
