// A queue as a shop with Node would build it: a job for each mail in graphile-worker, and a task that sends it with nodemailer's pool.
//
//     node queue.js PORT MAILS CONNECTIONS BYTES
//
// into the relay on this port, with jobs in the database that PGHOST and the like name. It ends when every job is done.
import { runOnce, makeWorkerUtils, Logger } from "graphile-worker";
import nodemailer from "nodemailer";
import pg from "pg";

const [port, mails, connections, bytes] = process.argv.slice(2).map(Number);
const silent = new Logger(() => () => {});
// As text and as HTML, like ours.
const text = "Would you recommend us?\n";
const html = `<p>${"Would you recommend us? ".repeat(Math.ceil(bytes / 24))}`.slice(0, bytes - 1000);

const pool = new pg.Pool({ max: connections + 2 });
const utils = await makeWorkerUtils({ pgPool: pool, logger: silent });
await utils.migrate();
const add = `select graphile_worker.add_jobs(array(
  select json_populate_record(null::graphile_worker.job_spec, job) from json_array_elements($1::json) as job
))`;
for (let n = 0; n < mails; n += 1000) {
  const jobs = Array.from({ length: Math.min(1000, mails - n) }, (_, i) => ({
    identifier: "invite",
    payload: { to: `c${n + i}@customer.example`, name: "Claire", order: `A-${n + i}` },
  }));
  await pool.query(add, [JSON.stringify(jobs)]);
}

const transport = nodemailer.createTransport({
  host: "127.0.0.1", port, secure: false, ignoreTLS: true, pool: true, maxConnections: connections, maxMessages: Infinity,
});
let sent = 0;
const invite = async ({ to, name, order }) => {
  await transport.sendMail({
    from: "a@shop.example", to, subject: `${name}, your order ${order}`, text: `Hello ${name},\n${text}`, html,
  });
  sent += 1;
};
await runOnce({ pgPool: pool, concurrency: connections, noHandleSignals: true, logger: silent, taskList: { invite } });
transport.close();
await utils.release();
await pool.end();
if (sent !== mails) {
  console.error(`${sent} mails were sent, not ${mails}`);
  process.exit(1);
}
