stet_unit_test(code_buf stet_proto)
stet_unit_test(log stet_proto)
stet_unit_test(config stet_proto)
stet_unit_test(paths stet_proto)
