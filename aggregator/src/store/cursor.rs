//! Where the next page of a list begins.

/// The last crash of a page. The next page begins behind it, whatever was stored in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When it was observed, in nanoseconds since 1970.
    pub observed_at: i64,
    /// Its row, for crashes of the same nanosecond.
    pub row: i64,
}

impl Cursor {
    /// As a page token.
    pub fn to_token(self) -> String {
        format!("{:016x}{:016x}", self.observed_at, self.row)
    }

    /// From a page token. None when it is none of ours.
    pub fn from_token(token: &str) -> Option<Self> {
        let (observed_at, row) = token.split_at_checked(16)?;
        let number = |hex: &str| {
            let only_digits = hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            only_digits.then(|| u64::from_str_radix(hex, 16).ok()).flatten().map(u64::cast_signed)
        };
        Some(Self { observed_at: number(observed_at)?, row: number(row)? })
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn tokens() {
        for cursor in [
            Cursor { observed_at: 1_763_802_635_123_456_789, row: 7 },
            Cursor { observed_at: -1, row: i64::MAX },
        ] {
            assert_eq!(Cursor::from_token(&cursor.to_token()), Some(cursor));
        }
        let token = Cursor { observed_at: 1, row: 2 }.to_token();
        for wrong in [
            "",
            "7",
            &token[1..],
            &format!("{token}0"),
            &token.replace('2', "g"),
            "äääääääääääääääää",
            "+00000000000000f000000000000000f",
        ] {
            assert_eq!(Cursor::from_token(wrong), None, "{wrong}");
        }
    }
}
