"
null