J
/media/whole.bin