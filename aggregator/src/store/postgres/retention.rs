//! How long and how much is kept in PostgreSQL. Of several aggregators one at a time looks after that.

use deadpool_postgres::Client;

use super::schema::LOCK;
use super::statements::Failed;
use crate::store::Retention;
use crate::store::retention::Removed;

/// Reports removed in one transaction, so that none holds back what is written for long.
const STEP: i64 = 200;

/// Removes what is beyond the bounds; nothing by its age without a time to tell it by.
pub(super) async fn enforce(
    client: &mut Client,
    retention: &Retention,
    now: Option<i64>,
) -> Result<Removed, Failed> {
    let mut removed = Removed::default();
    let max_age = i64::try_from(retention.max_age.as_nanos()).unwrap_or(i64::MAX);
    let max_bytes = i64::try_from(retention.max_bytes).unwrap_or(i64::MAX);
    loop {
        let transaction = client.transaction().await?;
        let mine = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&(LOCK + 1)]).await?;
        if !mine.try_get::<_, bool>(0)? {
            return Ok(removed);
        }
        let too_old = transaction
            .execute(
                "DELETE FROM reports WHERE row IN (SELECT row FROM reports WHERE received_at < $1 LIMIT $2)",
                &[&now.map_or(i64::MIN, |now| now.saturating_sub(max_age)), &STEP],
            )
            .await?;
        let bytes: i64 = transaction
            .query_one("SELECT coalesce(sum(bytes), 0)::bigint FROM reports", &[])
            .await?
            .try_get(0)?;
        let too_much = if bytes > max_bytes {
            let oldest = "DELETE FROM reports WHERE row IN (SELECT row FROM reports ORDER BY row LIMIT $1)";
            transaction.execute(oldest, &[&STEP]).await?
        } else {
            0
        };
        transaction.commit().await?;
        removed.too_old += too_old;
        removed.too_much += too_much;
        if too_old + too_much == 0 {
            return Ok(removed);
        }
    }
}
