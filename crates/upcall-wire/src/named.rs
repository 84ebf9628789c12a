//! Macros for closed sets of named values: reasons, codes, transports, kinds of frames.
//!
//! Each value is written once, with its name, its number and its documentation. Logs, counters, manual pages and tests
//! use the same names, and a table sized by `ALL.len()` cannot lack a value.

/// Defines an enum in which every variant has a name: `Variant => "name"`.
///
/// The enum gets `ALL` and `NAMES`, its variants and their names in the order of definition, `name`, `from_name`, and a
/// `Display` that writes the name. With the type of a number after its name (`enum Code: u16`, variants `Variant = 7 =>
/// "name"`) it also gets `number` and `from_number`, for values that are sent as that number.
///
/// ```
/// upcall_wire::named_enum! {
///     /// What to do.
///     pub enum Action: u8 {
///         /// Go on.
///         Go = 1 => "go",
///         /// Stop.
///         Stop = 2 => "stop",
///     }
/// }
/// assert_eq!(Action::NAMES, ["go", "stop"]);
/// assert_eq!(Action::ALL.map(Action::name), Action::NAMES);
/// assert_eq!(Action::from_name("stop"), Action::from_number(2));
/// ```
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident: $number:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $value:literal => $text:literal,)+
        }
    ) => {
        $crate::named_enum! {
            $(#[$attribute])*
            #[repr($number)]
            $visibility enum $name {
                $($(#[$variant_attribute])* $variant = $value => $text,)+
            }
        }

        impl $name {
            /// The number that represents it in the protocol.
            pub const fn number(self) -> $number {
                self as $number
            }

            /// The variant with this number.
            pub const fn from_number(number: $number) -> Option<$name> {
                match number {
                    $($value => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident $(= $value:literal)? => $text:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant $(= $value)?,)+
        }

        impl $name {
            /// Every variant, in the order of definition, which is the order of summaries.
            pub const ALL: [$name; [$($text),+].len()] = [$($name::$variant),+];

            /// The name of every variant, in the same order.
            pub const NAMES: [&str; $name::ALL.len()] = [$($text),+];

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

/// Defines a module of `u8` constants, and `ALL` in it: each constant's name and value, in the order of definition.
///
/// For numbers that are matched as bytes, where an enum would have to be converted first.
macro_rules! named_numbers {
    (
        $(#[$attribute:meta])*
        $visibility:vis mod $name:ident {
            $($(#[$constant_attribute:meta])* $constant:ident = $value:literal,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility mod $name {
            $($(#[$constant_attribute])* pub const $constant: u8 = $value;)+

            /// The name and the value of every constant of this module.
            pub const ALL: [(&str, u8); [$($value),+].len()] = [$((stringify!($constant), $value)),+];
        }
    };
}

pub(crate) use named_numbers;
