-- So many published testimonials: psql -v n=1000000 -f testimonials.sql, into a migrated database in which nothing but the shop is.
\set ON_ERROR_STOP on
insert into survey_version (shop_id, survey, digest, questionnaire, created_at)
select shop_id, 'satisfaction', sha256('bench'), '{"questions":[
    {"key":"recommend","type":"recommend","required":true,"in_mail":true,"when":null,"text":{}},
    {"key":"overall","type":"rating","required":false,"in_mail":false,"when":null,"text":{}},
    {"key":"comment","type":"text","max_length":4000,"required":false,"in_mail":false,"when":null,"text":{}}]}', '2025-01-01'
from shop where key = 'maison';
insert into customer (shop_id, email, email_key, first_name, last_name)
select shop_id, 'c' || n || '@customer.example', 'c' || n || '@customer.example', 'Claire', 'Dubois'
from shop, generate_series(1, :n) n where key = 'maison';
insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, country, attributes, imported_at, updated_at)
select shop_id, 'A-' || customer_id, customer_id, timestamptz '2025-01-01' + customer_id * interval '20 seconds',
       timestamptz '2025-01-03' + customer_id * interval '20 seconds', 'fulfilled', array['P-' || customer_id % 500], 'FR', '{}',
       '2025-01-01', '2025-01-01'
from customer;
insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale, answered_at, received_at,
                      consent_version)
select o.shop_id, order_id, 'satisfaction', survey_version_id, 1, true, 'page', 'human', 'fr', fulfilled_at + interval '7 days',
       fulfilled_at + interval '7 days', '2026-11'
from "order" o join survey_version v on v.shop_id = o.shop_id and v.digest = sha256('bench') order by order_id;
insert into answer (shop_id, response_id, question, score, choice, body)
select shop_id, response_id, q.question, case q.question when 'overall' then 1 + response_id % 5 end,
       case q.question when 'recommend' then case when response_id % 9 = 0 then 'no' else 'yes' end end,
       case q.question when 'comment' then 'Livraison rapide, produit "soigné" ; je reviendrai, avis ' || response_id end
from response cross join (values ('recommend'), ('overall'), ('comment')) q (question) order by shop_id, response_id;
insert into testimonial (shop_id, response_id, state, decided_at, published_at)
select shop_id, response_id, 'approved', '2026-01-01', '2026-01-01' from response order by shop_id, response_id;
vacuum analyze;
