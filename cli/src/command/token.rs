//! `paceline token` and `paceline workers`: who may do what at a coordinator.
//!
//! ```text
//!  draw ─► write the file, or print ─► tell the coordinator the hash ─► done
//!  here     the only copy there is      it never sees the secret
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use paceline_proto::access::{AccessToken, Holder, Role};
use paceline_proto::model::{NewToken, Revocation, TokenInfo};
use serde_json::json;

use crate::arguments::{NewTokenArguments, Remote, TokenCommand, WorkersCommand};
use crate::console::{Console, Format};
use crate::evaluation::table::plain;
use crate::failure::{Exit, Failure};
use crate::remote::{Coordinator, runtime};

/// `paceline token …`.
pub(crate) fn token(command: &TokenCommand, remote: &Remote, console: Console) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let coordinator = Coordinator::of(remote).await?;
        match command {
            TokenCommand::Create { role, new } => create(&coordinator, *role, new, console).await,
            TokenCommand::List => list(&coordinator, |_| true, console).await,
            TokenCommand::Revoke { id } => revoke(&coordinator, Revocation::Token(*id), console).await,
        }
    })
}

/// `paceline workers …`.
pub(crate) fn workers(command: &WorkersCommand, remote: &Remote, console: Console) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let coordinator = Coordinator::of(remote).await?;
        match command {
            WorkersCommand::Enroll { new } => create(&coordinator, Role::Worker, new, console).await,
            WorkersCommand::List => list(&coordinator, |info| info.role == Role::Worker, console).await,
            WorkersCommand::Revoke { name } => revoke(&coordinator, Revocation::Worker(name.clone()), console).await,
        }
    })
}

async fn create(
    coordinator: &Coordinator,
    role: Role,
    arguments: &NewTokenArguments,
    console: Console,
) -> Result<(), Failure> {
    let NewTokenArguments { name, expires, output } = arguments;
    let token = AccessToken::draw(Holder::clone(name))
        .map_err(|error| Failure::new(Exit::Io, "NO_RANDOMNESS", "the system gives no random bytes").cause(error))?;
    if let Some(path) = output {
        keep(path, &token)?;
    }
    let (id, holder, hash) = (token.id(), token.holder().clone(), token.hash());
    let new = NewToken { id, holder, role, hash, lifetime: expires.0 };
    let made = match coordinator.answer(coordinator.fleet.create(&new).await) {
        Ok(made) => made,
        Err(failure) => {
            if let Some(path) = output {
                // The token is good nowhere. That it stays behind is no fault of its own.
                let _ = fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    let until = made.expires.map_or_else(|| "for ever".to_owned(), |end| format!("until {}", date(end)));
    let described = format!("token {id} of {role}/{name}, good {until}");
    match (output, console.format) {
        (Some(path), _) => {
            console.say(format!("{described}, is in {}", path.display()));
            console.emit(&json!({"file": path, "info": object(&made)}));
        }
        (None, Format::Text) => {
            console.say(token.text().expose());
            // Beside the results, so that `> FILE` takes the token alone.
            eprintln!("{described}; this is the only time it is shown");
        }
        (None, Format::Json) => console.emit(&json!({"token": token.text().expose(), "info": object(&made)})),
    }
    Ok(())
}

/// Writes the token to a new file that only its owner may read.
fn keep(path: &Path, token: &AccessToken) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        writeln!(file, "{}", token.text().expose())?;
        file.sync_all()
    });
    written.map_err(|error| Failure::cannot_create(path, &error))
}

async fn list(coordinator: &Coordinator, wanted: impl Fn(&TokenInfo) -> bool, console: Console) -> Result<(), Failure> {
    let tokens: Vec<TokenInfo> =
        coordinator.answer(coordinator.fleet.list().await)?.into_iter().filter(wanted).collect();
    console.emit(&json!({"tokens": tokens.iter().map(object).collect::<Vec<_>>()}));
    if tokens.is_empty() {
        console.say("none yet: `paceline workers enroll NAME` and `paceline token create NAME` make some");
        return Ok(());
    }
    let now = now();
    let mut table = plain(&["id", "holder", "state", "made", "expires", "last used"]);
    for info in &tokens {
        let time = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), date);
        table.add_row([
            info.id.to_string(),
            format!("{}/{}", info.role, info.holder),
            state(info, now).to_owned(),
            date(info.created),
            time(info.expires),
            time(info.last_used),
        ]);
    }
    console.say(table.to_string());
    Ok(())
}

async fn revoke(coordinator: &Coordinator, which: Revocation, console: Console) -> Result<(), Failure> {
    let revoked = coordinator.answer(coordinator.fleet.revoke(&which).await)?;
    for info in &revoked {
        console.say(format!("revoked: token {} of {}/{}", info.id, info.role, info.holder));
    }
    console.emit(&json!({"revoked": revoked.iter().map(object).collect::<Vec<_>>()}));
    Ok(())
}

fn state(info: &TokenInfo, now: u64) -> &'static str {
    match (info.revoked, info.is_live(now)) {
        (Some(_), _) => "revoked",
        (None, false) => "expired",
        (None, true) => "live",
    }
}

fn object(info: &TokenInfo) -> serde_json::Value {
    json!({
        "id": info.id.to_string(),
        "holder": info.holder.as_str(),
        "role": info.role.as_str(),
        "state": state(info, now()),
        "created": info.created,
        "expires": info.expires,
        "revoked": info.revoked,
        "last_used": info.last_used,
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 as a day and a time, UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days are counted in eras of 400 years that begin on 1 March 0000, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_735_689_600, "2025-01-01 00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (4_291_747_200, "2106-01-01 00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn a_token_file_is_for_its_owner_and_replaces_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("t");
        let token = AccessToken::draw("w".parse().expect("a name")).expect("random bytes");
        keep(&path, &token).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(keep(&path, &token).expect_err("it is there").exit, Exit::CannotCreate);
    }
}
