J3
/media/a song.wav	s√∂ng.wav	audio/wav Ä (,0d:s