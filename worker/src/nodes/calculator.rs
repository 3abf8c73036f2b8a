//! Does sums that come as JSON.

use remotemedia_core::data::{Kind, RuntimeData};
use remotemedia_core::manifest::Params;
use remotemedia_core::nearest::nearest;
use remotemedia_core::node::{
    Node, NodeError, NodeInfo, NodeType, Output, Outputs, ParamError, Parameter, Values, read_params,
};
use remotemedia_core::{Frame, Json};
use serde::Deserialize;
use serde_json::{Number, Value, json};

/// Adds, subtracts, multiplies or divides what an input lists: `{"operation": "add", "operands": [10, 20]}` is answered
/// with `{"result": 30, "operation": "add", "operands": [10, 20]}`.
///
/// It goes from left to right over two operands or more. Integers stay exact as long as the result is one and fits into
/// 64 bits; all else is 64-bit floating point. Other keys of the request are not read.
#[derive(Debug, Deserialize)]
pub struct Calculator {
    precision: Option<usize>,
}

/// A request that has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CalculationError {
    /// Another kind of JSON.
    #[error("a calculation is a JSON object with 'operation' and 'operands', got {received}")]
    NotAnObject {
        /// What came.
        received: &'static str,
    },
    /// A key is missing.
    #[error("'{key}' is missing: a calculation has 'operation' and 'operands'")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key holds something else.
    #[error("'{key}' is {received}: {expected} is wanted")]
    WrongType {
        /// The key, or `operands[2]`.
        key: String,
        /// What came.
        received: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// A word that is no operation.
    #[error("operation '{received}' is not known: there are add, subtract, multiply, divide{}", hint(nearest.as_deref()))]
    Operation {
        /// As written.
        received: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// Nothing to calculate.
    #[error("'operands' has {count} numbers: two or more are wanted")]
    TooFew {
        /// As counted.
        count: usize,
    },
    /// There is no such number.
    #[error("division by zero: operands[{at}] is 0")]
    DivisionByZero {
        /// Which operand, counted from 0.
        at: usize,
    },
    /// The result is too large for a 64-bit float.
    #[error("the result is beyond the largest number, 1.8e308")]
    Overflow,
}

#[derive(Clone, Copy)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

// === impl Calculator ===

impl NodeType for Calculator {
    fn info() -> NodeInfo {
        NodeInfo {
            name: "Calculator".to_owned(),
            aliases: vec!["CalculatorNode".to_owned()],
            summary: "Adds, subtracts, multiplies or divides the operands of a JSON request, and gives JSON."
                .to_owned(),
            accepts: vec![Kind::Json],
            produces: vec![Kind::Json],
            parameters: vec![Parameter::optional(
                "precision",
                Values::integer(0..=15, "decimals"),
                "Rounds results that are no integers; without it they are not rounded.",
            )],
            repeatable: true,
            stateless: true,
            ..NodeInfo::default()
        }
    }

    fn new(params: &Params) -> Result<Self, ParamError> {
        read_params(params)
    }
}

impl Node for Calculator {
    fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
        let received = input.data.kind();
        let RuntimeData::Json(json) = input.data else {
            return Err(NodeError::WrongKind { expected: Kind::Json, received });
        };
        let answer = self.answer(&json.parse().map_err(NodeError::failed)?).map_err(NodeError::failed)?;
        out.emit(Output { data: Json::of(&answer)?.into(), metadata: input.metadata, timestamp_us: None })?;
        Ok(())
    }
}

impl Calculator {
    fn answer(&self, request: &Value) -> Result<Value, CalculationError> {
        let Value::Object(request) = request else {
            return Err(CalculationError::NotAnObject { received: name_of(request) });
        };
        let field = |key| request.get(key).ok_or(CalculationError::Missing { key });
        let operation = Operation::read(field("operation")?)?;
        let operands = numbers(field("operands")?)?;
        let result = self.rounded(operation.over(&operands)?);
        Ok(json!({ "result": result, "operation": operation.name(), "operands": operands }))
    }

    fn rounded(&self, result: Number) -> Number {
        let Some(precision) = self.precision.filter(|_| result.is_f64()) else { return result };
        let rounded = result.as_f64().and_then(|float| format!("{float:.precision$}").parse().ok());
        rounded.and_then(Number::from_f64).unwrap_or(result)
    }
}

// === impl Operation ===

impl Operation {
    const ALL: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide];

    const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
        }
    }

    fn read(value: &Value) -> Result<Self, CalculationError> {
        let Value::String(word) = value else { return Err(wrong_type("operation", value, "a string")) };
        Self::ALL.into_iter().find(|operation| operation.name() == word).ok_or_else(|| {
            let nearest = nearest(word, Self::ALL.map(Self::name)).map(str::to_owned);
            CalculationError::Operation { received: word.chars().take(80).collect(), nearest }
        })
    }

    fn over(self, operands: &[Number]) -> Result<Number, CalculationError> {
        let [first, rest @ ..] = operands else { return Err(CalculationError::TooFew { count: 0 }) };
        if rest.is_empty() {
            return Err(CalculationError::TooFew { count: 1 });
        }
        let zero = |number: &Number| number.as_f64() == Some(0.0);
        if let (Self::Divide, Some(at)) = (self, rest.iter().position(zero)) {
            return Err(CalculationError::DivisionByZero { at: at + 1 });
        }
        let exact = rest.iter().try_fold(first.as_i64(), |sum, next| {
            let (sum, next) = (sum?, next.as_i64()?);
            Some(self.exactly(sum, next))
        });
        if let Some(exact) = exact.flatten() {
            return Ok(exact.into());
        }
        let floats = rest.iter().filter_map(Number::as_f64);
        let result = floats.fold(first.as_f64().unwrap_or_default(), |sum, next| self.roughly(sum, next));
        Number::from_f64(result).ok_or(CalculationError::Overflow)
    }

    fn exactly(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b).filter(|_| a.checked_rem(b) == Some(0)),
        }
    }

    fn roughly(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
        }
    }
}

fn numbers(value: &Value) -> Result<Vec<Number>, CalculationError> {
    let Value::Array(values) = value else {
        return Err(wrong_type("operands", value, "an array of numbers"));
    };
    let number = |(at, value): (usize, &Value)| match value {
        Value::Number(number) => Ok(number.clone()),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong_type(&format!("operands[{at}]"), value, "a number"))
        }
    };
    values.iter().enumerate().map(number).collect()
}

fn wrong_type(key: &str, value: &Value, expected: &'static str) -> CalculationError {
    CalculationError::WrongType { key: key.to_owned(), received: name_of(value), expected }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean '{nearest}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Harness;

    fn calculate(precision: Option<usize>, request: &str) -> Result<String, String> {
        let frame = Frame::new(0, Json::new(request.to_owned().into(), "").unwrap());
        let outputs = Harness::default()
            .run(&mut Calculator { precision }, frame)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8(outputs[0].data.payload().to_vec()).unwrap())
    }

    #[test]
    fn sums_are_done_from_left_to_right_and_integers_stay_exact() {
        let check = |operation: &str, operands: &str, result: &str| {
            let answer = calculate(None, &format!(r#"{{"operation":"{operation}","operands":{operands}}}"#));
            let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
            let operands: Value = serde_json::from_str(operands).unwrap();
            let result: Value = serde_json::from_str(result).unwrap();
            assert_eq!(answer, json!({ "result": result, "operation": operation, "operands": operands }));
        };
        check("add", "[10,20]", "30");
        check("add", "[1,2,3,4]", "10");
        check("subtract", "[10,2,3]", "5");
        check("multiply", "[5,7]", "35");
        check("divide", "[100,4]", "25");
        check("divide", "[1,4]", "0.25");
        check("divide", "[7,2,2]", "1.75");
        check("add", "[0.5,1]", "1.5");
        check("add", "[9007199254740993,0]", "9007199254740993");
        check("multiply", "[9223372036854775807,2]", "18446744073709552000.0");
        check("divide", "[-9223372036854775808,-1]", "9223372036854775808.0");
        check("divide", "[0,5]", "0");
    }

    #[test]
    fn precision_rounds_what_is_no_integer() {
        let answer = calculate(Some(2), r#"{"operation":"divide","operands":[2,3]}"#).unwrap();
        assert!(answer.contains("0.67"), "{answer}");
        let answer = calculate(Some(0), r#"{"operation":"add","operands":[123456789,1]}"#).unwrap();
        assert!(answer.contains("123456790"), "{answer}");
    }

    #[test]
    fn what_has_no_result_is_answered_with_what_is_wrong_and_what_is_wanted() {
        let check = |request: &str, expect: &str| assert_eq!(calculate(None, request).unwrap_err(), expect);
        check(r#"{"operation":"divide","operands":[1,2,0]}"#, "division by zero: operands[2] is 0");
        check(r#"{"operation":"divide","operands":[1,-0.0]}"#, "division by zero: operands[1] is 0");
        check(
            r#"{"operation":"multiply","operands":[1e308,10]}"#,
            "the result is beyond the largest number, 1.8e308",
        );
        check("[1,2]", "a calculation is a JSON object with 'operation' and 'operands', got an array");
        check(
            r#"{"operands":[1,2]}"#,
            "'operation' is missing: a calculation has 'operation' and 'operands'",
        );
        check(
            r#"{"operation":"add"}"#,
            "'operands' is missing: a calculation has 'operation' and 'operands'",
        );
        check(r#"{"operation":1,"operands":[1,2]}"#, "'operation' is a number: a string is wanted");
        check(
            r#"{"operation":"add","operands":"1"}"#,
            "'operands' is a string: an array of numbers is wanted",
        );
        check(r#"{"operation":"add","operands":[1,"2"]}"#, "'operands[1]' is a string: a number is wanted");
        check(r#"{"operation":"add","operands":[1]}"#, "'operands' has 1 numbers: two or more are wanted");
        check(
            r#"{"operation":"substract","operands":[1,2]}"#,
            "operation 'substract' is not known: there are add, subtract, multiply, divide; did you mean 'subtract'?",
        );
        check(
            r#"{"operation":"power","operands":[1,2]}"#,
            "operation 'power' is not known: there are add, subtract, multiply, divide",
        );
    }

    #[test]
    fn other_kinds_are_refused() {
        let frame = Frame::new(0, remotemedia_core::Text::from("1 + 1"));
        let error = Harness::default().run(&mut Calculator { precision: None }, frame).unwrap_err();
        assert_eq!(error.to_string(), "expects json, got text");
    }
}
