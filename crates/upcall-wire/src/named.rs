//! Sets of named cases. Logs, counters, summaries, pages and tests use these names.

/// Defines an enum whose variants have a name each: `Variant => "name"`, or `Variant = 7 => "name"` where the variant has
/// a number on the wire.
///
/// The enum gets `ALL`, with its variants in the order of their definition, `name`, `from_name`, and `Display`, which
/// writes the name. Each variant is written once, so a table that is sized by `ALL.len()` cannot miss one.
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident $(= $number:literal)? => $text:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant $(= $number)?,)+
        }

        impl $name {
            /// Every variant, in the order of definition, which is the order of summaries.
            pub const ALL: [$name; [$($text),+].len()] = [$($name::$variant),+];

            /// The name that logs, summaries and pages use.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The variant with this name.
            pub fn from_name(name: &str) -> Option<$name> {
                match name {
                    $($text => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
