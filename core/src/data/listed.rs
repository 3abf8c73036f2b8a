//! Enums that know all their variants.

/// An enum, and its list `ALL`, from one list of variants: one that is in the enum is in `ALL`, so that tests which go
/// through `ALL` have gone through all.
macro_rules! listed {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $($(#[$of_variant:meta])* $variant:ident,)+ }
    ) => {
        $(#[$about])*
        pub enum $name { $($(#[$of_variant])* $variant,)+ }

        impl $name {
            /// All that there are.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }
    };
}

pub(super) use listed;
