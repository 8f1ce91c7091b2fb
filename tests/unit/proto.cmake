stet_unit_test(code_buf stet_proto)
