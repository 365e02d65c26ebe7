//! What an option is: its name, type, unit, default, bounds and documentation, and the check of a value
//! against them. Messages are worded as Kafka words them, since tools show them as they are.

/// Type of an option's value, as DescribeConfigs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// 32-bit number.
    Int,
    /// 64-bit number.
    Long,
    /// Floating-point number.
    Double,
    /// Text.
    String,
    /// Values separated by commas.
    List,
}

impl Kind {
    /// Kafka's number for the type in DescribeConfigs answers.
    #[must_use]
    pub fn id(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No unit: text, a count, a ratio.
    None,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

/// When and where a broker option may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Needs a restart; set by file or command line only.
    ReadOnly,
    /// While running, for one broker or for all.
    ClusterWide,
}

/// What values an option takes beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// Anything of the type.
    Any,
    /// At least this number.
    AtLeast(i64),
    /// A number in this range, both ends included.
    Between(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    EachOf(&'static [&'static str]),
    /// Kafka's list of throttled replicas: `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// gzip's levels: 1 to 9, or -1 for the default.
    GzipLevel,
    /// Known, but Ringlog does not do it yet: only the default is accepted.
    OnlyDefault,
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionDef {
    /// Kafka's name where Kafka has one.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// What a number counts.
    pub unit: Unit,
    /// Value without a setting; none where Kafka's is null.
    pub default: Option<&'static str>,
    /// What values it takes.
    pub check: Check,
    /// When it may change. Topic options always may.
    pub update: Update,
    /// For a topic option: the broker option that gives its default.
    pub synonym: Option<&'static str>,
    /// What it does, for DescribeConfigs and the reference.
    pub doc: &'static str,
}

impl OptionDef {
    /// An option without unit, bounds and synonym that needs a restart to change.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        let default = Some(default);
        let (unit, check, update) = (Unit::None, Check::Any, Update::ReadOnly);
        OptionDef { name, kind, unit, default, check, update, synonym: None, doc }
    }

    pub(super) const fn null(mut self) -> Self {
        self.default = None;
        self
    }

    pub(super) const fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    pub(super) const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    pub(super) const fn between(self, min: i64, max: i64) -> Self {
        Self { check: Check::Between(min, max), ..self }
    }

    pub(super) const fn at_least(self, min: i64) -> Self {
        self.check(Check::AtLeast(min))
    }

    pub(super) const fn one_of(self, words: &'static [&'static str]) -> Self {
        self.check(Check::OneOf(words))
    }

    pub(super) const fn synonym(mut self, name: &'static str) -> Self {
        self.synonym = Some(name);
        self
    }

    pub(super) const fn dynamic(mut self) -> Self {
        self.update = Update::ClusterWide;
        self
    }

    /// Checks a value against type and bounds.
    ///
    /// # Errors
    /// One line in Kafka's words that names the value, the option and what is allowed.
    pub fn validate(&self, value: &str) -> Result<(), String> {
        self.reason_against(value).map_or(Ok(()), |why| {
            Err(format!("Invalid value {value} for configuration {}: {why}", self.name))
        })
    }

    fn reason_against(&self, value: &str) -> Option<String> {
        let value = value.trim();
        let number = match self.kind {
            Kind::Boolean if parse_bool(value).is_none() => {
                return Some("Expected value to be either true or false".into());
            }
            Kind::Int => match value.parse::<i32>() {
                Ok(n) => Some(i64::from(n)),
                Err(_) => return Some("Not a number of type INT".into()),
            },
            Kind::Long => match value.parse::<i64>() {
                Ok(n) => Some(n),
                Err(_) => return Some("Not a number of type LONG".into()),
            },
            Kind::Double => match value.parse::<f64>() {
                Ok(n) if n.is_finite() => return self.reason_against_double(n),
                _ => return Some("Not a number of type DOUBLE".into()),
            },
            Kind::Boolean | Kind::String | Kind::List => None,
        };
        match (self.check, number) {
            (Check::Any, _) => None,
            (Check::AtLeast(min) | Check::Between(min, _), Some(n)) if n < min => {
                Some(format!("Value must be at least {min}"))
            }
            (Check::Between(_, max), Some(n)) if n > max => Some(format!("Value must be no more than {max}")),
            (Check::GzipLevel, Some(n)) if n != -1 && !(1..=9).contains(&n) => {
                Some("Value must be between 1 and 9 or equal to -1".into())
            }
            (Check::OneOf(words), _) if !words.contains(&value) => {
                Some(format!("String must be one of: {}", words.join(", ")))
            }
            (Check::EachOf(words), _) if split_list(value).any(|word| !words.contains(&word)) => {
                Some(format!("String must be one of: {}", words.join(", ")))
            }
            (Check::ThrottledReplicas, _) if !is_throttled_replicas(value) => Some(
                "must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                    .into(),
            ),
            (Check::OnlyDefault, _) if Some(value) != self.default => Some(format!(
                "Ringlog does not support this yet; the only accepted value is {}",
                self.default.unwrap_or("none")
            )),
            _ => None,
        }
    }

    fn reason_against_double(&self, n: f64) -> Option<String> {
        let Check::Between(min, max) = self.check else { return None };
        if n < min as f64 {
            return Some(format!("Value must be at least {min}"));
        }
        (n > max as f64).then(|| format!("Value must be no more than {max}"))
    }
}

/// Kafka's booleans: `true` and `false` in any case.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else {
        value.eq_ignore_ascii_case("false").then_some(false)
    }
}

/// The elements of a list value; none for empty text.
pub(super) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn is_throttled_replicas(value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    value == "*"
        || split_list(value).all(|pair| pair.split_once(':').is_some_and(|(p, b)| digits(p) && digits(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: OptionDef = OptionDef::new("a.count", Kind::Int, "1", "").at_least(1);

    #[test]
    fn messages_name_value_option_and_what_is_allowed() {
        assert_eq!(
            COUNT.validate("0").unwrap_err(),
            "Invalid value 0 for configuration a.count: Value must be at least 1"
        );
        assert_eq!(
            COUNT.validate("many").unwrap_err(),
            "Invalid value many for configuration a.count: Not a number of type INT"
        );
        let word = OptionDef::new("a.word", Kind::String, "x", "").one_of(&["x", "y"]);
        assert_eq!(
            word.validate("z").unwrap_err(),
            "Invalid value z for configuration a.word: String must be one of: x, y"
        );
    }

    #[test]
    fn numbers_are_bounded_by_their_type() {
        assert!(COUNT.validate("2147483647").is_ok());
        assert!(COUNT.validate("2147483648").is_err());
        assert!(COUNT.validate(" 5 ").is_ok(), "Kafka trims values");
        let long = OptionDef::new("a.long", Kind::Long, "1", "");
        assert!(long.validate("9223372036854775807").is_ok());
        assert!(long.validate("9223372036854775808").is_err());
        let ratio = OptionDef::new("a.ratio", Kind::Double, "0.5", "").check(Check::Between(0, 1));
        for (value, ok) in [("0", true), ("1.0", true), ("1.01", false), ("-0.1", false), ("NaN", false)] {
            assert_eq!(ratio.validate(value).is_ok(), ok, "{value}");
        }
    }

    #[test]
    fn special_checks() {
        let gzip = OptionDef::new("g", Kind::Int, "-1", "").check(Check::GzipLevel);
        for (value, ok) in [("-1", true), ("0", false), ("1", true), ("9", true), ("10", false)] {
            assert_eq!(gzip.validate(value).is_ok(), ok, "gzip {value}");
        }
        let throttle = OptionDef::new("t", Kind::List, "", "").check(Check::ThrottledReplicas);
        for (value, ok) in
            [("", true), ("*", true), ("0:1,2:3", true), ("0:", false), ("a:1", false), ("0", false)]
        {
            assert_eq!(throttle.validate(value).is_ok(), ok, "throttle {value}");
        }
        let only = OptionDef::new("o", Kind::Boolean, "false", "").check(Check::OnlyDefault);
        assert!(only.validate("false").is_ok());
        assert!(only.validate("true").is_err());
        let policy = OptionDef::new("p", Kind::List, "a", "").check(Check::EachOf(&["a", "b"]));
        for (value, ok) in [("a, b", true), ("", true), ("a,c", false)] {
            assert_eq!(policy.validate(value).is_ok(), ok, "list {value}");
        }
    }

    #[test]
    fn booleans_in_any_case() {
        let flag = OptionDef::new("f", Kind::Boolean, "false", "");
        assert!(flag.validate("TRUE").is_ok());
        assert!(flag.validate("yes").is_err());
    }
}
