-- $1 shop
insert into answer (shop_id, response_id, question, score, choice, body)
select $1, response_id, question, score, choice, body from staged_answer
