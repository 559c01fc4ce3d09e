-- Rows whose order stands again further down in the file.
delete from staged_order s
using (
    select external_id, max(line) as last_line
    from staged_order
    group by external_id
    having count(*) > 1
) d
where s.external_id = d.external_id and s.line < d.last_line
