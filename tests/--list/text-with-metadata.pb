*

xutf-8R
namelessR
speakeräR
void