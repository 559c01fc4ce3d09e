-- Rows whose source and day stand again further down in the file.
delete from staged_rating s
using staged_rating later
where later.shop_id = s.shop_id and later.source = s.source and later.rated_on = s.rated_on and later.line > s.line
