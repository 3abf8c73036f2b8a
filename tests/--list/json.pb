"q
e{"deep": [[], {}, [1, -2.5, null, true]], "ü": "\u00fc \ud83c\udfb5", "large": 18446744073709551615}golden/1