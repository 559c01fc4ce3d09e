-- Orders with a row for each of their items: the first row is the order, and gets the items of all its rows, each once.
update staged_order s
set items = bought.items
from (
    select first_line, array_agg(item order by line, n) as items
    from (
        select distinct on (o.first_line, item) o.first_line, o.line, n, item
        from staged_order o
        cross join lateral unnest(o.items) with ordinality as i (item, n)
        where o.first_line in (select first_line from staged_order where line <> first_line)
        order by o.first_line, item, o.line, n
    ) each_once
    group by first_line
) bought
where s.line = bought.first_line;

delete from staged_order where line <> first_line;
