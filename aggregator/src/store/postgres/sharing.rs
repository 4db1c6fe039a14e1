//! What aggregators that share a database tell each other by it: crashes that another one stored or judged, what was already said on a
//! pod, and which agents another one hears.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use deadpool_postgres::Client;
use lastwords_proto::v1;
use prost::Message;

use super::statements::{Failed, text};

/// Transactions may be committed in another order than their numbers were given: numbers of the last while are looked at again. Longer than
/// any transaction lives (`STATEMENT_TIMEOUT`, a statement for each of its steps at most).
const LOOK_BACK: Duration = Duration::from_secs(120);
/// An agent whose aggregator has not told of it for this long (seconds) is connected to none that lives.
const HEARD_LATELY: &str = "30 seconds";

/// Where this aggregator stands in what the others have written.
#[derive(Debug, Default)]
pub(super) struct News {
    /// All numbers up to here are known.
    below: i64,
    /// Those above that are.
    seen: HashSet<i64>,
    /// The highest number at each look, oldest first.
    looks: VecDeque<(Instant, i64)>,
}

/// Where the numbers stand now.
pub(super) async fn last_number(client: &Client) -> Result<i64, Failed> {
    let row = client.query_one("SELECT coalesce(max(number), 0) FROM diagnoses", &[]).await?;
    Ok(row.try_get(0)?)
}

impl News {
    /// Nothing is known above this number.
    pub(super) fn from(number: i64) -> Self {
        Self { below: number, ..Self::default() }
    }

    /// The ids of crashes that others stored or judged since the last look, each once.
    pub(super) async fn look(&mut self, client: &Client, writer: i64) -> Result<Vec<String>, Failed> {
        let statement = client
            .prepare_cached(
                "SELECT d.number, r.id FROM diagnoses d JOIN reports r ON r.row = d.row \
                 WHERE d.number > $1 AND d.writer <> $2 ORDER BY d.number",
            )
            .await?;
        let rows = client.query(&statement, &[&self.below, &writer]).await?;
        // All of it is read before any of it counts as seen.
        let rows = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<Vec<(i64, String)>, Failed>>()?;
        let mut ids: Vec<String> = Vec::new();
        let mut highest = self.looks.back().map_or(self.below, |(_, number)| *number);
        for (number, id) in rows {
            highest = highest.max(number);
            if self.seen.insert(number) && !ids.contains(&id) {
                ids.push(id);
            }
        }
        self.looked(highest, Instant::now());
        Ok(ids)
    }

    fn looked(&mut self, highest: i64, now: Instant) {
        self.looks.push_back((now, highest));
        while let Some((at, number)) = self.looks.front().copied()
            && now.duration_since(at) >= LOOK_BACK
        {
            self.looks.pop_front();
            self.below = number;
            self.seen.retain(|seen| *seen > number);
        }
    }
}

/// Takes the right to say this of a crash; false when it was said before, by whichever aggregator.
pub(super) async fn claim(client: &Client, id: &str, said: &str) -> Result<bool, Failed> {
    let statement = client
        .prepare_cached(
            "UPDATE newest n SET said = $2 FROM reports r WHERE r.id = $1 AND n.row = r.row AND n.said <> $2",
        )
        .await?;
    Ok(client.execute(&statement, &[&text(id), &text(said)]).await? > 0)
}

/// Tells the others of the agents that this aggregator hears. Of two that tell of the same node the one that heard it last is right.
pub(super) async fn tell_agents(client: &Client, writer: i64, agents: &[v1::Node]) -> Result<(), Failed> {
    let statement = client
        .prepare_cached(
            "INSERT INTO agents (node, writer, heard_at, agent) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (node) DO UPDATE \
             SET writer = excluded.writer, heard_at = excluded.heard_at, agent = excluded.agent, written_at = now() \
             WHERE agents.writer = excluded.writer OR agents.heard_at < excluded.heard_at",
        )
        .await?;
    for agent in agents {
        let heard_at = agent.last_heard.as_ref().and_then(crate::time::from_wire).unwrap_or_default().0;
        client.execute(&statement, &[&text(&agent.name), &writer, &heard_at, &agent.encode_to_vec()]).await?;
    }
    Ok(())
}

/// The agents that others hear, or heard last.
pub(super) async fn agents_elsewhere(client: &Client, writer: i64) -> Result<Vec<v1::Node>, Failed> {
    let query = format!(
        "SELECT agent, written_at > now() - interval '{HEARD_LATELY}' FROM agents WHERE writer <> $1"
    );
    let rows = client.query(&client.prepare_cached(&query).await?, &[&writer]).await?;
    let mut agents = Vec::with_capacity(rows.len());
    for row in rows {
        // One that a newer program wrote in a way of its own tells nothing.
        let Ok(mut agent) = v1::Node::decode(row.try_get::<_, &[u8]>(0)?) else { continue };
        agent.connected &= row.try_get::<_, bool>(1)?;
        agents.push(agent);
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_late_is_not_passed_over_and_memory_is_bounded() {
        let mut news = News::from(10);
        let start = Instant::now();
        news.seen.extend([11, 13]);
        news.looked(13, start);
        assert_eq!(news.below, 10, "12 may still come");
        news.looked(20, start + LOOK_BACK);
        assert_eq!((news.below, news.seen.len()), (13, 0));
        assert_eq!(news.looks.len(), 1);
    }
}
