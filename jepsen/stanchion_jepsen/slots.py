"""placeholder"""
async def group_finder(api, groups):
    raise NotImplementedError
