-- What is counted, as files for DuckDB: psql -v folder=… -f export.sql. Only the columns that are counted; texts of comments are not.
\set ON_ERROR_STOP on
set timezone = 'UTC';
\cd :folder
\copy (select order_id, customer_id, to_char(ordered_at, 'YYYY-MM-DD HH24:MI:SS.US') as ordered_at, status from "order") to orders.csv csv header
\copy (select invitation_id, order_id, survey, wave, state, to_char(coalesce(sent_at, decided_at), 'YYYY-MM-DD HH24:MI:SS.US') as placed_at from invitation) to invitation.csv csv header
\copy (select invitation_id, kind from bounce) to bounce.csv csv header
\copy (select response_id, order_id, survey, invitation_id is not null as by_mail, revision, counted, verdict, to_char(answered_at, 'YYYY-MM-DD HH24:MI:SS.US') as answered_at from response) to response.csv csv header
\copy (select response_id, question, coalesce(choice, score::text) as value from answer) to answer.csv csv header
\copy (select source, rated_on, trim_scale(score / scale)::text as share, coalesce(ratings, -1) as ratings from rating) to rating.csv csv header
