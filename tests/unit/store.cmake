stet_unit_test(store_key stet_store)
stet_unit_test(store_batch stet_store)
